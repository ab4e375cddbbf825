"""The worker's side of delivery: slots, claims and commits of one lane.

At most one entry per free slot is ever delivered to this worker. A commit takes the next entry for its own slot in
the same step; while slots are idle, one blocking read waits for them. After any error the worker reads what is
pending for it, because an entry may have been delivered without its reply having arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from executor.errors import CorruptEntry, ExecutorError, GroupMissing, Unanswerable, WorkerBroken
from executor.outage import Outage
from executor.outcome import Outcome, Reason
from executor.result import EvaluationResult
from executor.streams.lane import HANDBACK, Handback, Lane, LaneEntry, Lease
from executor.streams.terminal import Destination
from executor.telemetry import EVALUATIONS, LOST_LEASES, QUEUE_SECONDS, RUN_SECONDS, SLOTS_BUSY, STALE_COMMITS
from executor.tracing import Tracer, now_ns
from worker.attempt import Attempt
from worker.keepers import Keepers
from worker.output import LiveOutput
from worker.spans import Seen, trace_attempt

log = logging.getLogger("worker")

READ_BLOCK_MS = 2000
_LAST_WORDS: Final = 1.0
"""Seconds that a child which is stopped at the end of the grace period has for its report: its last output is in it."""


class Consumer:
    """Runs the evaluations of one lane.

    Attributes:
        running: attempts by lane entry id.
        draining: whether no more work is taken.
        last_active: loop time at which the last evaluation ended, or the worker started.
        claimed: called after each successful claim.
        began_ns: when this process did, wall clock, until a trace has told of it; 0 when none is to.
    """

    def __init__(
        self,
        lane: Lane,
        slots: int,
        keepers: Keepers,
        make_attempt: Callable[[Lease], Attempt],
        outage: Outage,
        tracer: Tracer,
    ) -> None:
        self._lane = lane
        self._name = lane.name
        self._slots = slots
        self._keepers = keepers
        self._outage = outage
        self._tracer = tracer
        self._make_attempt = make_attempt
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: set[str] = set()
        self._slot_freed = asyncio.Event()
        self.running: dict[str, Attempt] = {}
        self.draining = False
        self.last_active = asyncio.get_running_loop().time()
        self.claimed: Callable[[], None] = lambda: None
        self.began_ns = 0

    @property
    def busy(self) -> int:
        """Slots in use."""
        return len(self._tasks)

    async def serve(self) -> None:
        """Read and run until drained."""
        recover = True
        tried: set[str] = set()
        while not self.draining:
            free = self._slots - self.busy
            if not free:
                self._slot_freed.clear()
                await self._slot_freed.wait()
                continue
            try:
                entries = await (self._missed(free, tried) if recover else self._lane.read(free, READ_BLOCK_MS))
            except ExecutorError as error:
                recover, tried = True, set()
                await self._outage.wait(error)
                await self._outage.outlast(self._lane.ensure)
                continue
            recover = recover and bool(entries)
            self._outage.over()
            for entry in entries:
                self._start(entry)  # draining by now: the task gives it back

    async def serve_one(self, wait_ms: int) -> bool:
        """Take a single entry and run it to its commit; False when there was none (a one-shot worker)."""
        await self._outage.outlast(self._lane.ensure)
        entries = await self._outage.outlast(lambda: self._lane.read(1, wait_ms))
        for entry in entries:
            self._start(entry, last=True)
        if self._tasks:
            await asyncio.wait(self._tasks)
        return bool(entries)

    async def drain(self, grace: float) -> None:
        """Stop taking work: what was not started goes back at once, what runs after `grace` seconds."""
        self.draining = True
        self._slot_freed.set()
        unstarted = asyncio.create_task(self._give_back_unstarted(), name="give-back")
        unfinished: list[Attempt] = []
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace)
            unfinished = list(self.running.values())  # a task that ends takes its own out
            for attempt in unfinished:
                attempt.kill("lost")
            if late:
                _, late = await asyncio.wait(late, timeout=_LAST_WORDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        unstarted.cancel()
        await asyncio.wait([unstarted])
        for attempt in unfinished:
            await self._hand_back(attempt, "handed back: it outlasted the grace period of its worker")
        await self._give_back_unstarted()

    async def _give_back_unstarted(self) -> None:
        """Hand back what was delivered to this worker and is in no slot: some of it perhaps without its knowing."""
        try:
            for entry in await self._lane.pending(1000):
                if entry.entry_id not in self._held:
                    await self._give_back(entry)
        except ExecutorError as error:
            log.warning("entries are left to the rescue", extra={"error": str(error)})

    def lose(self, attempt: Attempt) -> None:
        """The lease of a running attempt has passed on: stop its child at once."""
        LOST_LEASES.add(1, self._name)
        log.warning("a lease was lost; its child is stopped", extra={"evaluation_id": attempt.lease.entry.id})
        attempt.kill("lost")

    async def _missed(self, count: int, tried: set[str]) -> list[LaneEntry]:
        """Entries delivered to this worker without its knowing; each is tried once, then left to the rescue."""
        entries = await self._lane.pending(1000)
        missed = [entry for entry in entries if entry.entry_id not in self._held | tried][:count]
        tried.update(entry.entry_id for entry in missed)
        return missed

    def _start(self, entry: LaneEntry, *, last: bool = False) -> None:
        self._held.add(entry.entry_id)
        task = asyncio.create_task(self._use_slot(entry, last=last), name=f"evaluation-{entry.id}")
        self._tasks.add(task)
        task.add_done_callback(self._freed)

    def _freed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.last_active = asyncio.get_running_loop().time()
        SLOTS_BUSY.set(self.busy, self._name)
        self._slot_freed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an evaluation's task failed; its entry is left to the rescue", exc_info=error)

    async def _use_slot(self, entry: LaneEntry, *, last: bool) -> None:
        """Run an entry, then what its commit brought, until this slot has nothing."""
        following: LaneEntry | None = entry
        while following is not None:
            current, following = following, None
            try:
                following = await self._evaluate(current, last=last)
            except (CorruptEntry, Unanswerable) as error:
                log.error("an entry cannot be worked", extra={"entry_id": current.entry_id, "error": str(error)})
                await self._bury(current, error)
            finally:
                self._held.discard(current.entry_id)
            if following is not None:
                self._held.add(following.entry_id)

    async def _evaluate(self, entry: LaneEntry, *, last: bool) -> LaneEntry | None:
        read_ns = now_ns()
        if self.draining:
            await self._give_back(entry)
            return None
        lease = await self._claim(entry)
        if lease is None:
            return None
        seen = Seen(self.began_ns, read_ns, now_ns(), 0)
        attempt = self._make_attempt(lease)
        self.running[entry.entry_id] = attempt
        self.claimed()
        SLOTS_BUSY.set(self.busy, self._name)
        QUEUE_SECONDS.observe(lease.queued_ms / 1000, self._name)
        try:
            result = await self._run(attempt)
            if attempt.was_stopped_for_its_lease(result):
                return None
            return await self._commit(attempt, result, seen, last=last)
        except WorkerBroken as error:
            log.warning("an attempt failed the platform", extra={"evaluation_id": entry.id, "error": str(error)})
            if lease.attempt < attempt.payload["max_attempts"]:
                await self._hand_back(attempt, str(error))
                return None
            return await self._commit(attempt, attempt.lost(str(error)), seen, last=last)
        finally:
            self.running.pop(entry.entry_id, None)

    async def _bury(self, entry: LaneEntry, error: CorruptEntry | Unanswerable) -> None:
        reason = Reason.CORRUPT if isinstance(error, CorruptEntry) else Reason.UNANSWERABLE
        await self._outage.outlast(lambda: self._lane.bury(entry, reason, str(error)))

    async def _claim(self, entry: LaneEntry) -> Lease | None:
        while True:
            try:
                lease = await self._lane.claim(entry)
            except (CorruptEntry, Unanswerable):
                raise
            except ExecutorError as error:
                await self._outage.wait(error)
            else:
                self._outage.over()
                return lease

    async def _run(self, attempt: Attempt) -> EvaluationResult:
        if not attempt.streams:
            return await attempt.run(self._keepers)
        live = LiveOutput(self._lane, attempt.lease, attempt.destination)
        try:
            return await attempt.run(self._keepers, live.put)
        finally:
            await live.close()

    async def _commit(self, attempt: Attempt, result: EvaluationResult, seen: Seen, *, last: bool) -> LaneEntry | None:
        seen = seen._replace(ended_ns=now_ns())
        fetch = 0 if last or self.draining else 1
        committed, entries = await self._outage.outlast(
            lambda: self._commit_in_group(attempt, result, fetch=fetch, leave=last)
        )
        if committed:
            EVALUATIONS.add(1, self._name, result.outcome)
            RUN_SECONDS.observe(result.duration_ms / 1000, self._name)
        else:
            STALE_COMMITS.add(1, self._name)
            facts = {"evaluation_id": result.id, "tenant": result.tenant, "attempt": result.attempt}
            log.warning("a commit came too late and was refused", extra=facts)
        if self._tracer.wants(attempt.lease.entry.traceparent):
            await self._trace(attempt, result, seen, committed=committed)
        return entries[0] if entries else None

    async def _trace(self, attempt: Attempt, result: EvaluationResult, seen: Seen, *, committed: bool) -> None:
        times = attempt.payload.get("times")
        start = trace_attempt(self._tracer, self._name, attempt.lease, times, result, seen, committed=committed)
        if committed:
            self.began_ns = 0
        if start is not None:
            with suppress(ExecutorError):  # a trace without the phases of a pod is no reason to fail
                await self._lane.tell(start)

    async def _commit_in_group(
        self, attempt: Attempt, result: EvaluationResult, *, fetch: int, leave: bool
    ) -> tuple[bool, list[LaneEntry]]:
        """Commit; a group that is gone is made again first, for no read may come that would do it."""
        to, output = attempt.destination, attempt.last_output if result.outcome is Outcome.LOST else ""
        try:
            return await self._lane.commit(attempt.lease, to, result, fetch=fetch, leave=leave, output=output)
        except GroupMissing:
            await self._lane.ensure()
            raise

    async def _hand_back(self, attempt: Attempt, how: str) -> None:
        """End an attempt that leaves no result."""
        lease = attempt.lease
        past = Handback(how, attempt.last_output)
        await self._give_back(lease.entry, lease.generation, past, attempt.destination)

    async def _give_back(
        self,
        entry: LaneEntry,
        generation: int | None = None,
        past: Handback = HANDBACK,
        to: Destination | None = None,
    ) -> None:
        try:
            await self._lane.release(entry, generation, past, to)
        except ExecutorError as error:
            log.warning("an entry is left to the rescue", extra={"entry_id": entry.entry_id, "error": str(error)})
