"""The worker program: starts its parts in the order that costs least, stops them in the order that loses nothing.

Start: the zygote boots in a process of its own while this one imports and connects; health and metrics come after
the first read is on its way. Stop: no more reads, what runs finishes within the grace period, the rest is handed
back, the registration goes, and only then the children.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from executor.errors import ExecutorError, Misconfigured
from executor.health import HealthServer
from executor.keys import job_lane, warm_lane
from executor.outage import Outage
from executor.settings import Settings, cpu_limit, own_name, server_url
from executor.streams.channel import listen
from executor.streams.lane import Lane, Lease, Registration
from executor.streams.server import Cell, close_quietly
from executor.telemetry import STARTUP_SECONDS
from executor.tracing import Tracer, now_ns
from worker.attempt import Attempt
from worker.consumer import Consumer
from worker.keepers import Keepers

log = logging.getLogger("worker")

AGENT, ONE_SHOT, WARM_POOL = "agent", "one-shot", "warm-pool"
TEMPLATE = "python"


class Worker:
    """One worker process.

    Attributes:
        consumer: its side of delivery.
    """

    def __init__(self, settings: Settings, keepers: Keepers) -> None:
        own = settings.worker
        if own.mode not in (AGENT, ONE_SHOT, WARM_POOL):
            raise Misconfigured(f"MODE: {own.mode!r} is neither {WARM_POOL}, {ONE_SHOT} nor {AGENT}")
        self._settings = settings
        self._agent = own.mode == AGENT
        self._one_shot = own.mode != WARM_POOL
        self._id = own.worker_id or own_name()
        self._slots = slots_of(settings)
        self._keepers = keepers
        lane = own.lane or (job_lane("cpu") if self._one_shot else warm_lane(TEMPLATE))
        self._cell = Cell(server_url(settings.server), settings.server, settings.delivery)
        self._lane = Lane(self._cell, lane, self._id)
        self._outage = Outage("worker")
        self._tracer = Tracer("executor-worker", settings.telemetry.traces, self._id)
        self.consumer = Consumer(self._lane, self._slots, keepers, self._attempt, self._outage, self._tracer)
        self.consumer.claimed = self._on_claim
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - _process_start()
        self.consumer.began_ns = now_ns() - round(age * 1e9)
        self._health = HealthServer(settings.telemetry, self._unready)
        self._stop = asyncio.Event()
        self._started = False

    async def run(self) -> int:
        """Serve until told to stop, idle too long, or (one-shot) done; returns the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        # The container that an agent's keepers come from starts after its claim.
        self._starting = asyncio.create_task(self._keepers.start(), name="keepers")
        if not self._agent:
            await self._starting
        serving = asyncio.create_task(self._serve(), name="serve")
        upkeep = [
            asyncio.create_task(self._heartbeat(), name="heartbeat"),
            asyncio.create_task(self._hear(), name="control"),
        ]
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            STARTUP_SECONDS.set(time.clock_gettime(time.CLOCK_BOOTTIME) - _process_start(), "ready")
            await self._health.start()
            await asyncio.wait([serving, stopping, *upkeep], return_when=asyncio.FIRST_COMPLETED)
            for task in (serving, *upkeep):
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            await self._shut_down(serving, upkeep, stopping)
            await self._stop_starting()
        return 0

    async def _serve(self) -> None:
        if self._one_shot:
            if self._came_before():
                await self.consumer.drain(0)
            elif not await self._serve_one():
                log.info("no entry to claim; done")
            if self._agent:
                await self._outlive_the_container()
            return
        await self._outage.outlast(self._lane.ensure)
        self._started = True
        log.info("serving", extra={"lane": self._lane.name, "slots": self._slots, "worker": self._id})
        await self.consumer.serve()

    async def _serve_one(self) -> bool:
        return await self.consumer.serve_one(round(self._settings.worker.claim_timeout * 1000))

    def _came_before(self) -> bool:
        """Whether this is an agent that the kubelet has restarted: what its first life claimed is handed back."""
        if not self._agent:
            return False
        mark = Path(self._settings.worker.agent_socket).with_suffix(".started")
        came_before = mark.exists()
        mark.touch()
        return came_before

    async def _outlive_the_container(self) -> None:
        """Dismiss the evaluation container, then wait to be stopped: an agent that ends first would be restarted."""
        await self._stop_starting()
        self._keepers.disconnect()
        self._keepers.close()
        self._be_ready()
        await self._stop.wait()

    def _be_ready(self) -> None:
        """Say so; the pod of an agent waits for the mark before it starts the evaluation container."""
        self._started = True
        if self._agent:
            Path(self._settings.worker.agent_socket).with_suffix(".ready").touch()

    async def _stop_starting(self) -> None:
        self._starting.cancel()
        await asyncio.wait([self._starting])
        if not self._starting.cancelled():
            self._starting.exception()  # whoever waited for a keeper has been told

    async def _shut_down(
        self, serving: asyncio.Task[None], upkeep: list[asyncio.Task[None]], stopping: asyncio.Task[bool]
    ) -> None:
        self.consumer.draining = True
        stopping.cancel()
        await self._stop_reading(serving)
        if self.consumer.busy:
            log.info("draining", extra={"running": self.consumer.busy, "grace_seconds": self._settings.worker.grace})
        await self.consumer.drain(self._settings.worker.grace)
        for task in upkeep:
            task.cancel()
        await asyncio.wait(upkeep)
        with suppress(ExecutorError):
            async with asyncio.timeout(5):
                await self._lane.leave()
        await self._health.close()
        await close_quietly(self._cell)
        self._tracer.close()

    async def _stop_reading(self, serving: asyncio.Task[None]) -> None:
        """End the blocked read by waking it: dropped, it could still be given an entry that nobody then knows of."""
        with suppress(ExecutorError):
            await self._lane.wake()
            await asyncio.wait([serving], timeout=2)
        serving.cancel()
        await asyncio.wait([serving])

    async def _heartbeat(self) -> None:
        """Renew every lease and the registration, at a third of the lease."""
        interval = self._settings.delivery.lease / 3
        while True:
            await self._outage.outlast(self._renew)
            if self._idle_too_long():
                log.info("idle; done", extra={"idle_seconds": self._settings.worker.idle_timeout})
                self._stop.set()
            await asyncio.sleep(min(interval, self._settings.worker.idle_timeout / 3 or interval))

    async def _renew(self) -> None:
        attempts = list(self.consumer.running.values())
        words = await self._lane.renew([attempt.lease for attempt in attempts], self._registration())
        for attempt, word in zip(attempts, words, strict=True):
            if attempt.lease.entry.entry_id not in self.consumer.running:
                continue
            if word == "lost":
                self.consumer.lose(attempt)
            elif word == "cancel":
                attempt.kill("cancel")

    async def _hear(self) -> None:
        """Cancels on this worker's control channel; the heartbeat sees what is missed here."""
        channel = self._cell.keys.control(self._id)
        while True:
            try:
                async for record in listen(self._cell.url, self._cell.settings, channel):
                    for attempt in list(self.consumer.running.values()):
                        entry = attempt.lease.entry
                        if self._cell.keys.record(entry.tenant, entry.id).encode() == record:
                            attempt.kill("cancel")
            except ExecutorError as error:
                await self._outage.wait(error)

    def _attempt(self, lease: Lease) -> Attempt:
        def is_reply(key: str) -> bool:
            return self._cell.keys.is_reply(key, lease.entry.tenant)

        return Attempt(lease, self._settings.limits, self._id, is_reply)

    def _on_claim(self) -> None:
        """A one-shot worker is seen to be busy at once: a scaler counts it as pending until then."""
        self._be_ready()
        if self._one_shot:
            self._claiming = asyncio.create_task(self._outage.outlast(self._renew), name="register-claim")

    def _on_signal(self) -> None:
        if self._stop.is_set():
            os._exit(1)
        self._stop.set()

    def _idle_too_long(self) -> bool:
        limit = self._settings.worker.idle_timeout
        return (
            bool(limit)
            and not self.consumer.busy
            and asyncio.get_running_loop().time() - self.consumer.last_active >= limit
        )

    def _registration(self) -> Registration:
        status = "draining" if self.consumer.draining else "busy" if self.consumer.busy else "idle"
        url = f"http://{_address()}:{self._health.port}" if self._health.port else ""
        return Registration(url, status, self._slots, self.consumer.busy, TEMPLATE, self._lane.name)  # type: ignore[arg-type]

    def _unready(self) -> str:
        return self._outage.reason or ("" if self._started else "starting")


def slots_of(settings: Settings) -> int:
    """How many evaluations this worker runs at once."""
    if settings.worker.mode != WARM_POOL:
        return 1
    return settings.worker.slots or cpu_limit()


def _address() -> str:
    """How this worker's pages are reached: the host name, which a pod's peers resolve to its address."""
    import socket  # noqa: PLC0415 asyncio has it loaded

    return socket.gethostname()


def _process_start() -> float:
    """Seconds from boot to the start of this process (proc(5), stat field 22)."""
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")
