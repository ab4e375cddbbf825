"""What a dispatcher does with the ingress streams: read, admit, reject."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from executor.errors import PermanentError, ScriptMissing
from executor.keys import DISPATCHERS, WORKERS
from executor.outcome import Outcome, Reason
from executor.result import EvaluationResult
from executor.streams.channel import Command, pairs
from executor.streams.probe import Probe
from executor.streams.scripts import run, script
from executor.streams.server import Cell, ensure_groups
from executor.streams.terminal import Destination

log = logging.getLogger("dispatcher")

_BYTES: Final = 4 * 1024 * 1024
"""Entries read at once are this large together, and one more; a dispatcher holds them about five times over."""
_FEW: Final = 4
"""Entries read at once where their size is not bounded."""
_FULL_MS: Final = 100
"""How often a tenant whose backlog is full is looked at again."""


@dataclass(frozen=True, slots=True)
class IngressEntry:
    """One entry of a tenant's stream."""

    stream: str
    entry_id: str
    fields: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Admission:
    """A valid request and where it goes."""

    entry: IngressEntry
    to: Destination
    lane: str
    credit: int
    """Entries that the lane may hold, lag and pending together."""
    payload: bytes
    traceparent: str
    max_attempts: int
    priority: int = 2
    """Place in PRIORITIES, from 1."""
    not_before_ms: int = 0
    """ms since the epoch; 0: at once."""
    deadline_ms: int = 0
    """ms since the epoch; 0: none but its age."""
    once: str = ""
    """The caller's idempotency key; empty without one."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A request that is not acceptable, with its result."""

    entry: IngressEntry
    to: Destination
    result: EvaluationResult


class Ingress:
    """Reads and answers on one channel: the answers to a batch and the next blocking read are one write."""

    def __init__(self, cell: Cell, consumer: str, tenants: Sequence[str], *, forgets: bool = False) -> None:
        """Make one dispatcher's side.

        Args:
            cell: where the streams are.
            consumer: the dispatcher's name.
            tenants: whose streams it reads.
            forgets: whether the server is known to keep nothing, which then is not worth a word.
        """
        self._cell = cell
        self._consumer = consumer
        self._tenants = list(tenants)
        self._streams = [cell.keys.requests(tenant) for tenant in tenants]
        self._full: set[str] = set()
        self._channel = cell.channel("ingress")
        self._repair = cell.channel("ingress-repair")
        self._probe = Probe(self._repair, cell.keys.prefix, None if forgets else log)

    async def exchange(
        self, decisions: Sequence[Admission | Rejection], count: int, block_ms: int
    ) -> tuple[list[list[bytes]], Awaitable[list[IngressEntry]]]:
        """Carry out decisions and, in the same write, ask for new entries.

        Args:
            decisions: about entries read before.
            count: most entries to take; fewer when they are large (`_BYTES`).
            block_ms: how long the server waits for the first.

        Returns:
            The answer of the admit or reject script for each decision, and the entries, which must be awaited.

        Raises:
            ExecutorError: with nothing known about the decisions; they stay pending and are read again.
        """
        commands = [self._command(decision) for decision in decisions]
        keys = [self._cell.keys.usage(), self._cell.keys.quotas(), *self._streams]
        take = script("take").command(keys, [DISPATCHERS, self._consumer, count, _BYTES, *self._tenants])
        reads = self._wait_command(block_ms), take
        *answers, first, more = await self._channel.pipeline([*commands, *reads], patience=block_ms / 1000)
        settled = [
            await self._settle(command, decision, answer)
            for command, decision, answer in zip(commands, decisions, answers, strict=True)
        ]
        return settled, self._read(first, more, take)

    def _wait_command(self, block_ms: int) -> Command:
        """Waits for the next entry of a tenant that has room; when none has, for a result, which makes some."""
        readable = [stream for stream in self._streams if stream not in self._full]
        if not readable:
            return ("XREAD", "COUNT", 1, "BLOCK", _FULL_MS, "STREAMS", self._cell.keys.results(), "$")
        return self._read_command(">", 1, min(block_ms, _FULL_MS) if self._full else block_ms, readable)

    async def _read(self, first: asyncio.Future[Any], more: asyncio.Future[Any], take: Command) -> list[IngressEntry]:
        """The entry that was waited for, and what else there was."""
        replies: list[Any] = list(await asyncio.gather(first, more, return_exceptions=True))
        if isinstance(replies[1], ScriptMissing):
            replies[1] = await self._repair.call(*script("take").full(take))
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        waited_for, (others, full) = replies
        self._note_full({stream.decode() for stream in full})
        return [entry for reply in (waited_for, others) for entry in self._entries(reply)]

    def _note_full(self, full: set[str]) -> None:
        for stream in full - self._full:
            log.warning("a tenant's backlog is full; its requests wait in their stream", extra={"stream": stream})
        for stream in self._full - full:
            log.info("a tenant's backlog has room again", extra={"stream": stream})
        self._full = full

    async def carry_out(self, decisions: Sequence[Admission | Rejection]) -> list[list[bytes]]:
        """Carry out decisions without reading."""
        commands = [self._command(decision) for decision in decisions]
        answers = await self._repair.pipeline(commands) if commands else []
        pairs = zip(commands, decisions, answers, strict=True)
        return [await self._settle(command, decision, answer) for command, decision, answer in pairs]

    async def _settle(
        self, command: Command, decision: Admission | Rejection, answer: asyncio.Future[Any]
    ) -> list[bytes]:
        """The script's answer; what it could not do is done here, on a connection that does not block."""
        try:
            try:
                reply: list[bytes] = await answer
            except ScriptMissing:
                reply = await self._repair.call(*_script_of(decision).full(command))
            if reply[0] == b"reply_type":
                refusal = self._command(_without_reply(decision))
                return await self._repair.call(*script("reject").full(refusal))  # type: ignore[no-any-return]
            return reply
        except PermanentError as error:
            await self._bury(decision, error)
            return [b"buried"]

    async def _bury(self, decision: Admission | Rejection, error: PermanentError) -> None:
        """Set an entry aside that cannot be answered, because a key it needs is not ours."""
        entry, to, cell = decision.entry, decision.to, self._cell
        log.error(
            "a request cannot be answered and goes to the dead letters",
            extra={"evaluation_id": to.id, "error": str(error)},
        )
        keys = [cell.keys.record(to.tenant, to.id), cell.keys.dead(), entry.stream]
        args: list[str | int] = [cell.delivery.dead_cap, DISPATCHERS, entry.entry_id]
        about = (to.id, to.tenant, "stream", entry.stream, Reason.UNANSWERABLE, str(error))
        await run(self._repair, "bury", keys, [*args, *about])

    async def ensure(self) -> None:
        """Make the groups of all streams if they are not there, on a server that can carry them."""
        await self._probe.look()
        await ensure_groups(self._repair, self._streams, DISPATCHERS)
        await self._probe.look_at_group(self._streams[0])

    async def leave(self) -> None:
        """Remove this dispatcher's consumer where it holds nothing."""
        for stream in self._streams:
            if not await self._repair.call("XPENDING", stream, DISPATCHERS, "-", "+", 1, self._consumer):
                await self._repair.call("XGROUP", "DELCONSUMER", stream, DISPATCHERS, self._consumer)

    async def pending(self) -> list[IngressEntry]:
        """The oldest entries delivered to this consumer and never answered: few, for they may be large."""
        return self._entries(await self._channel.call(*self._read_command("0", _FEW, None, self._streams)))

    async def take_over(self, idle_ms: int) -> AsyncIterator[list[IngressEntry]]:
        """Entries that another dispatcher took and never answered, a few at a time."""
        for stream in self._streams:
            cursor = b"0-0"
            while True:
                cursor, entries, *_ = await self._repair.call(
                    "XAUTOCLAIM", stream, DISPATCHERS, self._consumer, idle_ms, cursor, "COUNT", _FEW
                )
                yield [IngressEntry(stream, entry_id.decode(), pairs(fields)) for entry_id, fields in entries]
                if cursor == b"0-0":
                    break

    def _read_command(self, start: str, count: int, block_ms: int | None, streams: Sequence[str]) -> Command:
        block: tuple[str | int, ...] = () if block_ms is None else ("BLOCK", block_ms)
        head = ("XREADGROUP", "GROUP", DISPATCHERS, self._consumer, "COUNT", count, *block)
        return (*head, "STREAMS", *streams, *[start] * len(streams))

    def _entries(self, reply: Any) -> list[IngressEntry]:
        return [
            IngressEntry(stream.decode(), entry_id.decode(), pairs(fields))
            for stream, entries in reply or []
            if stream.decode() in self._streams
            for entry_id, fields in entries
        ]

    def _command(self, decision: Admission | Rejection) -> Command:
        entry, to, cell = decision.entry, decision.to, self._cell
        keys, args = to.keys(cell.keys), to.args(cell.delivery)
        common = (DISPATCHERS, entry.entry_id, to.id, to.tenant)
        if isinstance(decision, Rejection):
            return script("reject").command([*keys, entry.stream], [*args, *common, *decision.result.to_fields()])
        return self._admission(decision, keys, args, common)

    def _admission(
        self, decision: Admission, keys: list[str], args: list[str | int], common: tuple[str, ...]
    ) -> Command:
        to, all_keys, delivery, lane = decision.to, self._cell.keys, self._cell.delivery, decision.lane
        max_age_ms = round(delivery.max_age * 1000)
        ttl_ms = max_age_ms + round(delivery.result_ttl * 1000)
        record: list[str | bytes | int] = ["payload", decision.payload, "lane", lane]
        record += ["max_attempts", decision.max_attempts, "reply_to", to.reply_to, "stream", int(to.stream)]
        times = (decision.not_before_ms, decision.deadline_ms)
        terms = (ttl_ms, max_age_ms, WORKERS, decision.credit, decision.priority, *times)
        once = all_keys.once(to.tenant, decision.once) if decision.once else all_keys.results()
        own = [all_keys.lane(lane), decision.entry.stream, all_keys.ages(), *all_keys.line(lane), once]
        flags = (int(bool(decision.once)), args[1])
        words = [args[0], *args[2:], *common, decision.traceparent, *terms, *flags, *record]
        return script("admit").command([*keys[:4], *own, keys[4]], words)


def _script_of(decision: Admission | Rejection) -> Any:
    return script("reject" if isinstance(decision, Rejection) else "admit")


def _without_reply(decision: Admission | Rejection) -> Rejection:
    to = Destination(decision.to.tenant, decision.to.id, stream=decision.to.stream)
    error = f"reply_to: {decision.to.reply_to} holds another type than a stream; name another or remove it"
    result = EvaluationResult(id=to.id, tenant=to.tenant, outcome=Outcome.REJECTED, error=error, field="reply_to")
    return Rejection(decision.entry, to, result)
