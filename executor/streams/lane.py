"""What a worker does with its lane: read, claim, renew, commit, hand back."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from executor.errors import CorruptEntry, Unanswerable
from executor.keys import WORKERS, flaw_of_name
from executor.outcome import Outcome, Reason
from executor.result import EvaluationResult
from executor.streams.channel import pairs
from executor.streams.probe import Probe
from executor.streams.scripts import run
from executor.streams.server import Cell, ensure_groups
from executor.streams.starts import Starts, WorkerStart
from executor.streams.terminal import Destination, look_past


@dataclass(frozen=True, slots=True)
class LaneEntry:
    """A thin entry: which evaluation, which attempt; the payload is in the record."""

    entry_id: str
    id: str
    tenant: str
    traceparent: str

    def check(self) -> None:
        """Raise CorruptEntry when it names no evaluation, as one that no dispatcher wrote."""
        if flaw := flaw_of_name(self.tenant, self.id):
            raise CorruptEntry(f"a lane entry of no dispatcher: {flaw}")


@dataclass(frozen=True, slots=True)
class Handback:
    """How an attempt ended that left no result."""

    how: str = "handed back"
    output: str = ""
    """The last of what it wrote, as far as its worker had received it."""


HANDBACK: Final = Handback()


@dataclass(frozen=True, slots=True)
class Lease:
    """What a successful claim gives: the right to commit this attempt while it is renewed."""

    entry: LaneEntry
    generation: int
    attempt: int
    queued_ms: float
    payload: bytes
    remaining_ms: float = -1.0
    """From the claim to the evaluation's deadline; negative without one."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A worker's line in the `executors` hash."""

    url: str
    status: Literal["idle", "busy", "draining"]
    max_concurrent: int
    busy: int
    template: str
    lane: str
    level: str = "process"
    """Isolation that evaluations get here."""

    def to_json(self) -> str:
        """The value of the hash field."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))


class Lane:
    """One worker's side of a lane. Reads block on a connection of their own.

    Attributes:
        name: of the lane.
    """

    def __init__(self, cell: Cell, lane: str, worker: str) -> None:
        self.name = lane
        self._cell = cell
        self._worker = worker
        self._stream = cell.keys.lane(lane)
        self._line = cell.keys.line(lane)
        self._reader = cell.channel("lane-reader")
        self._reader_id = 0
        self._commands = cell.channel("lane")
        self._probe = Probe(self._commands, cell.keys.prefix)
        self._starts = Starts(cell.keys, self._commands)

    async def ensure(self) -> None:
        """Make the lane's group if it is not there, on a server that can carry it.

        And learn which connection `wake` is about.
        """
        await self._probe.look()
        await ensure_groups(self._commands, [self._stream], WORKERS)
        await self._probe.look_at_group(self._stream)
        self._reader_id = await self._reader.call("CLIENT", "ID")

    async def wake(self) -> None:
        """Make a blocked read return now, with what it has been given so far."""
        await self._commands.call("CLIENT", "UNBLOCK", self._reader_id)

    async def read(self, count: int, block_ms: int) -> list[LaneEntry]:
        """Wait for new entries; at most `count` become this worker's."""
        reply = await self._reader.call(*self._read(">", count, "BLOCK", block_ms), patience=block_ms / 1000)
        return _lane_entries(reply[0][1] if reply else [])

    async def pending(self, count: int) -> list[LaneEntry]:
        """Entries that were delivered to this worker, started or not, oldest first."""
        reply = await self._commands.call(*self._read("0", count))
        return _lane_entries(reply[0][1] if reply else [])

    def _read(self, start: str, count: int, *options: str | int) -> tuple[str | int, ...]:
        return ("XREADGROUP", "GROUP", WORKERS, self._worker, "COUNT", count, *options, "STREAMS", self._stream, start)

    async def claim(self, entry: LaneEntry) -> Lease | None:
        """Become the owner; None when there is nothing to run any more.

        Raises:
            CorruptEntry: neither the entry nor its record say what to run.
            Unanswerable: there is something else in the record's place.
        """
        entry.check()
        record = self._cell.keys.record(entry.tenant, entry.id)
        keys = [record, self._stream, self._cell.keys.ages()]
        reply = await run(self._commands, "claim", keys, [WORKERS, self._worker, entry.entry_id])
        if reply[0] == b"corrupt":
            raise CorruptEntry(reply[1].decode("utf-8", "replace"))
        if reply[0] == b"unanswerable":
            raise Unanswerable(reply[1].decode("utf-8", "replace"))
        if reply[0] != b"run":
            return None
        return Lease(entry, reply[1], reply[2], float(reply[3]), reply[4], float(reply[5]))

    async def renew(self, leases: Sequence[Lease], registration: Registration) -> list[str]:
        """Say that this worker is alive and still wants these leases.

        Returns:
            For each lease `ok`, `lost` (stop at once) or `cancel`.
        """
        keys = [self._stream, self._cell.keys.heartbeat(self._worker), self._cell.keys.executors()]
        args: list[str | int] = [WORKERS, self._worker, round(self._cell.delivery.lease * 1000), registration.to_json()]
        for lease in leases:
            keys.append(self._cell.keys.record(lease.entry.tenant, lease.entry.id))
            args += [lease.entry.entry_id, lease.generation]
        return [word.decode() for word in await run(self._commands, "renew", keys, args)]

    async def commit(
        self,
        lease: Lease,
        to: Destination,
        result: EvaluationResult,
        *,
        fetch: int = 0,
        leave: bool = False,
        output: str = "",
    ) -> tuple[bool, list[LaneEntry]]:
        """End the attempt with its result, and take the next entries in the same step.

        Args:
            lease: of the attempt.
            to: where the result goes.
            result: the one terminal result.
            fetch: how many entries to take.
            leave: whether this consumer is done for good.
            output: the last that is known of it, if it is lost.

        Returns:
            Whether the result is committed (False: the lease had passed on), and the entries.
        """
        args: list[str | int | float] = [
            *to.args(self._cell.delivery),
            WORKERS,
            self._worker,
            lease.entry.entry_id,
            lease.generation,
        ]
        args += [fetch, "1" if leave else "0", self._cell.delivery.dead_cap, result.error, output]
        args += [result.outcome, *result.to_fields()]
        keys = [*to.keys(self._cell.keys), self._stream, self._cell.keys.dead(), *self._line]
        reply = await run(self._commands, "commit", keys, args)
        return reply[0] == b"committed", _lane_entries(reply[1:])

    async def release(
        self, entry: LaneEntry, generation: int | None, past: Handback = HANDBACK, to: Destination | None = None
    ) -> str:
        """Hand an entry back to the lane; after its last attempt its evaluation is lost.

        Args:
            entry: delivered to this worker.
            generation: of its claim; None when this worker knows of none.
            past: how the attempt ended, if there was one.
            to: where a result goes; looked up when None.

        Returns:
            `requeued`, `lost`, `gone` (there is nothing to run any more) or `passed` (it is another worker's).
        """
        if to is None:
            to = (await look_past(self._cell.keys, self._commands, entry.tenant, entry.id)).to
        error = "its workers went away in every attempt; the attempts are in the dead letters"
        result = EvaluationResult(
            id=entry.id, tenant=entry.tenant, outcome=Outcome.LOST, error=error, traceparent=entry.traceparent
        )
        delivery = self._cell.delivery
        jitter = random.random()  # noqa: S311 spreads attempts, hides nothing
        args: list[str | int | float] = [
            *to.args(delivery),
            WORKERS,
            self._worker,
            entry.entry_id,
            delivery.dead_cap,
            jitter,
            "" if generation is None else generation,
            past.how,
            past.output,
            *result.to_fields(),
        ]
        keys = [*to.keys(self._cell.keys), self._stream, self._cell.keys.dead(), *self._line]
        word: bytes = await run(self._commands, "release", keys, args)
        return word.decode()

    async def emit(self, lease: Lease, to: Destination, chunks: Sequence[tuple[str, str]]) -> bool:
        """Publish live output; False once the lease has passed on."""
        keys = [self._cell.keys.record(to.tenant, to.id), self._cell.keys.output(to.tenant, to.id)]
        delivery = self._cell.delivery
        args = [lease.generation, delivery.output_cap, round(delivery.reply_ttl * 1000), lease.attempt]
        answer = await run(self._commands, "emit", keys, [*args, *(word for chunk in chunks for word in chunk)])
        return bool(answer)

    async def bury(self, entry: LaneEntry, reason: Reason, error: str) -> None:
        """End what no attempt can work: to the dead letters, acknowledged, and lost as far as anybody knows of it."""
        to, outcome = Destination(entry.tenant[:64], entry.id[:128]), ""
        with suppress(CorruptEntry):
            entry.check()
            to = (await look_past(self._cell.keys, self._commands, entry.tenant, entry.id)).to
            outcome = Outcome.LOST
        result = EvaluationResult(
            id=to.id, tenant=to.tenant, outcome=Outcome.LOST, error=error, traceparent=entry.traceparent
        )
        keys = [*to.keys(self._cell.keys), self._cell.keys.dead(), self._stream, self._cell.keys.usage()]
        args = [*to.args(self._cell.delivery), self._cell.delivery.dead_cap, WORKERS, entry.entry_id]
        about = ("lane", self.name, reason, error, outcome, *result.to_fields())
        await run(self._commands, "bury", keys, [*args, *about])

    async def tell(self, start: WorkerStart) -> None:
        """Leave a note of this worker's start, for the trace."""
        await self._starts.tell(start)

    async def leave(self) -> bool:
        """Deregister; True when the consumer is gone too, False when it still holds entries."""
        keys = [self._stream, self._cell.keys.executors(), self._cell.keys.heartbeat(self._worker)]
        return bool(await run(self._commands, "leave", keys, [WORKERS, self._worker]))


def _lane_entries(raw: Any) -> list[LaneEntry]:
    """Read stream entries. One that no dispatcher wrote may have no id."""
    entries = []
    for entry_id, flat in raw:
        fields = pairs(flat)
        words = (fields.get(name, b"").decode("utf-8", "replace") for name in (b"id", b"tenant", b"traceparent"))
        entries.append(LaneEntry(entry_id.decode(), *words))
    return entries
