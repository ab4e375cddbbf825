"""The janitor: gives expired leases back, trims finished entries, keeps lag exact, forgets dead workers.

Several may run at once: every step is a script that checks before it acts. A pass takes a bounded batch and comes
again, so nothing here can hold the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from executor.errors import ExecutorError, GroupMissing
from executor.keys import DISPATCHERS, WORKERS, Keys
from executor.outage import Outage
from executor.streams.upkeep import Upkeep
from executor.telemetry import LAG_REPAIRS, QUEUE_DEPTH, RESCUES
from executor.tracing import Tracer

log = logging.getLogger("dispatcher")

_BATCH = 100

OnLoad = Callable[[Mapping[str, int]], None]
"""Is told, at each pass, how many evaluations each living worker runs."""


class Janitor:
    """Looks after the lanes and ingress streams of one cell."""

    def __init__(
        self,
        upkeep: Upkeep,
        keys: Keys,
        ingress: list[str],
        interval: float,
        outage: Outage,
        on_load: OnLoad,
        tracer: Tracer,
    ) -> None:
        self._upkeep = upkeep
        self._keys = keys
        self._ingress = ingress
        self._interval = interval
        self._outage = outage
        self._on_load = on_load
        self._tracer = tracer

    async def serve(self) -> None:
        """Make a pass every interval until cancelled."""
        while True:
            try:
                await self.pass_once()
                self._outage.over()
            except GroupMissing:
                log.info("a lane has no group yet")
            except ExecutorError as error:
                await self._outage.wait(error)
            await asyncio.sleep(self._interval)

    async def pass_once(self) -> None:
        """Rescue, tidy and count each lane; tidy ingress; forget workers whose heartbeat is gone."""
        for lane in await self._upkeep.lanes():
            await self._rescue(lane)
            _, repaired = await self._upkeep.tidy(self._keys.lane(lane), WORKERS)
            if repaired:
                LAG_REPAIRS.add(1, lane)
                log.warning("the lag of a lane was unknown and is exact again", extra={"lane": lane})
            view = await self._upkeep.view(lane)
            QUEUE_DEPTH.set((view.lag or 0) + view.pending, lane)
        for stream in self._ingress:
            await self._upkeep.tidy(stream, DISPATCHERS)
        executors = await self._upkeep.executors()
        self._on_load({one.id: int(one.facts.get("busy", 0)) for one in executors if one.alive})
        for executor in executors:
            if not executor.alive and await self._upkeep.forget(executor):
                log.warning("a worker went away without a word", extra={"worker": executor.id})

    async def _rescue(self, lane: str) -> None:
        for entry_id, tenant, evaluation_id in await self._upkeep.expired(lane, _BATCH):
            answer, known = await self._upkeep.rescue(lane, entry_id, tenant, evaluation_id)
            RESCUES.add(1, lane, answer)
            if answer in ("requeued", "lost"):
                facts = {"lane": lane, "evaluation_id": evaluation_id, "tenant": tenant, "answer": answer}
                log.warning("a lease ran out", extra=facts)
            if answer == "lost":
                stream = self._keys.requests(tenant)
                self._tracer.ended_unrun(known.traceparent, stream, known.entry_id, tenant, evaluation_id, answer)
