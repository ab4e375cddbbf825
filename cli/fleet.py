"""Wires the local autoscaler to this machine: demand from the lanes, workers as processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from executor.errors import ExecutorError
from executor.settings import Settings, server_url
from executor.streams.server import Cell, close_quietly
from executor.streams.upkeep import Upkeep
from keda.autoscaler import LocalAutoscaler, ScaleEvent
from keda.demand import Demand
from keda.manifests import LOCAL
from keda.manifests import load as load_manifests
from keda.processes import ProcessFleet, ReplicaState

_LOOK_SECONDS = 0.2


class LocalFleet:
    """The local autoscaler with its processes.

    Attributes:
        processes: the workers.
    """

    def __init__(self, settings: Settings, on_event: Callable[[ScaleEvent], None]) -> None:
        self._settings = settings
        self._url = server_url(settings.server)
        self._cell = Cell(self._url, settings.server, settings.delivery)
        self._upkeep = Upkeep(self._cell)
        self._states: dict[str, ReplicaState] = {}
        folder = Path(settings.autoscaler.manifests) if settings.autoscaler.manifests else LOCAL
        self.processes = ProcessFleet(self._command, self._environment, self._states.get, settings.worker.grace + 5)
        self._autoscaler = LocalAutoscaler(
            load_manifests(folder),
            self,
            self.processes,
            self._cell.keys.lane,
            sync_period=settings.autoscaler.hpa_sync,
            on_event=on_event,
        )

    async def run(self) -> None:
        """Scale until cancelled, then end every worker."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._autoscaler.run(), name="autoscaler")
                group.create_task(self._follow_states(), name="registry")
        finally:
            await self.processes.close()
            await close_quietly(self._cell)

    async def demand(self, stream: str, group: str) -> Demand:
        """Lag and pending of a lane (the autoscaler's port)."""
        view = await self._upkeep.view(stream.removeprefix(self._cell.keys.lane("")))
        return Demand(view.lag, view.pending)

    async def _follow_states(self) -> None:
        while True:
            try:
                found = await self._upkeep.executors()
            except ExecutorError:
                found = []
            for executor in found:
                lane = str(executor.facts.get("lane", ""))
                busy = executor.facts.get("status") == "busy"
                # A one-shot worker is ready once it has claimed; a pool worker once it is registered.
                self._states[executor.id] = ReplicaState(ready=busy or not lane.startswith("job."), busy=busy)
            await asyncio.sleep(_LOOK_SECONDS)

    def _command(self, _lane: str) -> list[str]:
        return [sys.executable, "-m", "worker"]

    def _environment(self, lane: str, replica: str) -> dict[str, str]:
        inherited = dict(os.environ)  # noqa: TID251 a worker started here gets what a person set for it
        return inherited | {
            "REDIS_URL": self._url,
            "EXECUTOR_ID": replica,
            "EXECUTOR_LANE": lane,
            "MODE": "one-shot" if lane.startswith("job.") else "warm-pool",
            "EXECUTOR_HEALTH_PORT": "0",
        }


def with_url(settings: Settings, url: str) -> Settings:
    """The same settings for another server."""
    return replace(settings, server=replace(settings.server, url=url))
