"""The janitor: ends what is too old, gives expired leases back, trims, keeps lag exact, forgets dead workers.

Several may run at once: every step is a script that checks before it acts. A pass takes a bounded batch and comes
again, so nothing here can hold the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from dispatcher.surroundings import Surroundings
from dispatcher.troubles import Troubles
from executor.errors import ExecutorError, GroupMissing, PermanentError
from executor.keys import DISPATCHERS, WORKERS
from executor.outage import Outage
from executor.outcome import Outcome
from executor.streams.server import Cell
from executor.streams.terminal import Known
from executor.streams.upkeep import Upkeep
from executor.streams.waiting import Waiting
from executor.telemetry import LAG_REPAIRS, QUEUE_DEPTH, RESCUES, WAITING
from executor.tracing import Tracer

log = logging.getLogger("dispatcher")

_BATCH: Final = 100
_LONGEST_REASON: Final = 500


class Janitor:
    """Looks after the lanes and ingress streams of one cell."""

    def __init__(
        self,
        cell: Cell,
        ingress: list[str],
        interval: float,
        credit_of: Callable[[str], int],
        surroundings: Surroundings,
        tracer: Tracer,
    ) -> None:
        self._upkeep = Upkeep(cell)
        self._waiting = Waiting(cell)
        self._keys = cell.keys
        self._max_age = cell.delivery.max_age
        self._ingress = ingress
        self._interval = interval
        self._credit_of = credit_of
        self._surroundings = surroundings
        self._tracer = tracer
        self._outage = Outage("janitor")
        self._troubles = Troubles("dispatcher")

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
        """Rescue, tidy and count each lane; tidy ingress; forget workers whose heartbeat is gone.

        What one part meets, a key or a value that is not ours, keeps no other from its turn.
        """
        await self._try("ages", self._end_what_is_too_old())
        for lane in await self._upkeep.lanes():
            await self._try(f"lane {lane}", self._look_after(lane))
        for stream in self._ingress:
            await self._try(stream, self._tidy_ingress(stream))
        await self._try("executors", self._look_after_executors())

    async def _try(self, part: str, step: Awaitable[None]) -> None:
        try:
            await step
        except PermanentError as error:
            self._troubles.note(part, str(error))
        else:
            self._troubles.over(part)

    async def _look_after(self, lane: str) -> None:
        if await self._upkeep.ensure([lane]):
            log.warning("a lane had no group; nobody would have been woken for it", extra={"lane": lane})
        await self._try(f"leases of {lane}", self._rescue(lane))
        await self._waiting.skip_ended(lane, _BATCH)
        await self._try(f"line of {lane}", self._feed(lane))
        _, repaired = await self._upkeep.tidy(self._keys.lane(lane), WORKERS)
        if repaired:
            LAG_REPAIRS.add(1, lane)
            log.warning("the lag of a lane was unknown and is exact again", extra={"lane": lane})
        for worker in await self._upkeep.reap(self._keys.lane(lane), WORKERS):
            log.info("a consumer that is gone and held nothing was removed", extra={"lane": lane, "worker": worker})
        view = await self._upkeep.view(lane)
        QUEUE_DEPTH.set((view.lag or 0) + view.pending, lane)

    async def _feed(self, lane: str) -> None:
        await self._waiting.feed(lane, self._credit_of(lane), _BATCH)
        WAITING.set(sum(await self._waiting.count(lane)), lane)

    async def _tidy_ingress(self, stream: str) -> None:
        await self._upkeep.tidy(stream, DISPATCHERS)
        await self._upkeep.reap(stream, DISPATCHERS)

    async def _look_after_executors(self) -> None:
        executors = await self._upkeep.executors()
        self._surroundings.on_load({one.id: one.busy for one in executors if one.alive})
        for executor in executors:
            if not executor.alive and await self._upkeep.forget(executor):
                log.warning("a worker went away without a word", extra={"worker": executor.id})

    async def _end_what_is_too_old(self) -> None:
        problem: PermanentError | None = None
        for known, is_late in await self._waiting.too_old(_BATCH):
            outcome, error = self._verdict(known.lane, is_late)
            try:
                ended = await self._waiting.expire(known, outcome, error) == "ended"
            except PermanentError as met:
                problem = met
                continue
            if ended:
                facts = {"lane": known.lane, "evaluation_id": known.to.id, "tenant": known.to.tenant, "error": error}
                log.warning("an evaluation ended while it waited", extra=facts)
                self._trace_end(known, outcome)
        if problem is not None:
            raise problem

    def _verdict(self, lane: str, is_late: bool) -> tuple[Outcome, str]:
        if is_late:
            return Outcome.TIMED_OUT, "its deadline passed before it ran"
        error = f"no worker of lane {lane} took it within {self._max_age:g} s of its admission"
        why = self._surroundings.why_idle(lane)
        return Outcome.LOST, f"{error}; {why[:_LONGEST_REASON]}" if why else error

    async def _rescue(self, lane: str) -> None:
        problem: PermanentError | None = None
        for entry_id, tenant, evaluation_id in await self._upkeep.expired(lane, _BATCH):
            try:
                answer, known = await self._upkeep.rescue(lane, entry_id, tenant, evaluation_id)
            except PermanentError as met:
                problem = met
                continue
            RESCUES.add(1, lane, answer)
            if answer in ("requeued", "lost"):
                facts = {"lane": lane, "evaluation_id": evaluation_id, "tenant": tenant, "answer": answer}
                log.warning("a lease ran out", extra=facts)
            if answer == "lost":
                self._trace_end(known, Outcome.LOST)
        if problem is not None:
            raise problem

    def _trace_end(self, known: Known, outcome: Outcome) -> None:
        to = known.to
        stream = self._keys.requests(to.tenant)
        self._tracer.ended_unrun(known.traceparent, stream, known.entry_id, to.tenant, to.id, outcome)
