"""The dispatcher program: starts its parts, and stops them in the order that loses nothing.

Any number of dispatchers serve one cell without a leader.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress

from dispatcher.intake import Intake
from dispatcher.janitor import Janitor
from dispatcher.pods import PodStarts
from dispatcher.policy import Policy, quotas_of
from dispatcher.routing import lanes
from dispatcher.surroundings import Surroundings
from executor.errors import ExecutorError, WrongKeyType
from executor.health import HealthServer
from executor.keys import WORKERS
from executor.outage import Outage
from executor.settings import Settings, own_name, server_url
from executor.streams.ingress import Ingress
from executor.streams.quotas import Quotas
from executor.streams.server import Cell, close_quietly, ensure_groups
from executor.streams.starts import Starts
from executor.tracing import Tracer

log = logging.getLogger("dispatcher")

_QUOTA_PERIOD = 5.0
"""Seconds between two words about quotas, and two looks at what they count."""
_QUOTA_SWEEP = 1000
"""Marks looked at in one go."""


class Dispatcher:
    """One dispatcher; runs until cancelled or told to stop.

    Attributes:
        ready: set once requests are read.
    """

    def __init__(self, settings: Settings, policy: Policy, surroundings: Surroundings | None = None) -> None:
        around = surroundings or Surroundings()
        self._settings = settings
        self._cell = Cell(server_url(settings.server), settings.server, settings.delivery)
        self._streams = [self._cell.keys.requests(tenant) for tenant in policy.tenants]
        name = settings.dispatcher.dispatcher_id or own_name()
        self._ingress = Ingress(self._cell, name, list(policy.tenants), forgets=around.forgets)
        self._outage = Outage("dispatcher")
        self._tracer = Tracer("executor-dispatcher", settings.telemetry.traces, name)
        self._intake = Intake(self._ingress, settings, policy, self._outage, self._tracer)
        interval = settings.dispatcher.janitor_interval
        default = settings.delivery.credit

        def credit_of(lane: str) -> int:
            return policy.credits.get(lane, default)

        self._quotas = Quotas(self._cell)
        self._quota_of = quotas_of(policy, settings.delivery)
        self._janitor = Janitor(self._cell, self._streams, interval, credit_of, around, self._tracer)
        self._pods: PodStarts | None = None
        if around.phases_of is not None and self._tracer.enabled:
            starts = Starts(self._cell.keys, self._cell.channel("starts"))
            self._pods = PodStarts(starts, around.phases_of, self._tracer)
        self._health = HealthServer(settings.telemetry, self._unready)
        self._stop = asyncio.Event()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until `stop`; errors of the server are lived through."""
        tasks = [asyncio.create_task(self._serve(), name="intake"), asyncio.create_task(self._stop.wait(), name="stop")]
        try:
            await self._health.start()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._intake.draining = True
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._close()

    def stop(self) -> None:
        """Ask it to end; asked a second time, the process ends at once."""
        if self._stop.is_set():
            os._exit(1)
        self._stop.set()

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT stop it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)

    async def _serve(self) -> None:
        await self._outage.outlast(self._prepare)
        self.ready.set()
        log.info("serving", extra={"streams": ",".join(self._streams)})
        async with asyncio.TaskGroup() as group:
            group.create_task(self._intake.serve(), name="intake")
            group.create_task(self._janitor.serve(), name="janitor")
            group.create_task(self._take_over(), name="take-over")
            group.create_task(self._keep_quotas(), name="quotas")
            if self._pods is not None:
                group.create_task(self._pods.serve(), name="pods")

    async def _prepare(self) -> None:
        """Groups at 0 before anything is added: what KEDA's lag needs to be exact."""
        await self._intake.open()
        channel = self._cell.channel("prepare")
        for lane in lanes():
            try:
                await ensure_groups(channel, [self._cell.keys.lane(lane)], WORKERS)
            except WrongKeyType as error:  # its requests are held; the other lanes are served
                log.error("a lane cannot be served", extra={"lane": lane, "error": str(error)})
        await channel.close()
        await self._quotas.publish(self._quota_of)

    async def _keep_quotas(self) -> None:
        """Say what holds again and again: a server that was emptied does not know any more."""
        while True:
            await asyncio.sleep(_QUOTA_PERIOD)
            await self._outage.outlast(lambda: self._quotas.publish(self._quota_of))
            with suppress(ExecutorError):  # whoever needs that key more says so
                await self._quotas.sweep(_QUOTA_SWEEP)

    async def _take_over(self) -> None:
        """Answer what a dispatcher took and never answered, because it died."""
        lease = self._settings.delivery.lease
        while True:
            await asyncio.sleep(lease / 3)
            await self._outage.outlast(lambda: self._intake.take_over(round(lease * 1000)))

    async def _close(self) -> None:
        with suppress(ExecutorError, TimeoutError):
            async with asyncio.timeout(5):
                await self._ingress.leave()
        await self._health.close()
        await close_quietly(self._cell)
        self._tracer.close()

    def _unready(self) -> str:
        return self._outage.reason or ("" if self.ready.is_set() else "starting")
