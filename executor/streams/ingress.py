"""What a dispatcher does with the ingress streams: read, admit, reject."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from executor.errors import PermanentError, ScriptMissing, WrongKeyType
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
    twice: bytes | None = None
    """Name of a field that it has more than once."""


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
    """Reads and answers on one channel: the answers to a batch and the next blocking read are one write.

    Attributes:
        closed: streams that cannot be read because their key holds something else, and what was said of it.
    """

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
        self._streams = {cell.keys.requests(tenant): tenant for tenant in tenants}
        self._open = list(self._streams)
        self._full: set[str] = set()
        self.closed: dict[str, str] = {}
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
        keys = [self._cell.keys.usage(), self._cell.keys.quotas(), *self._open]
        tenants = [self._streams[stream] for stream in self._open]
        take = script("take").command(keys, [DISPATCHERS, self._consumer, count, _BYTES, *tenants])
        reads = self._wait_command(block_ms), take
        *answers, first, more = await self._channel.pipeline([*commands, *reads], patience=block_ms / 1000)
        settled = [
            await self._settle(command, decision, answer)
            for command, decision, answer in zip(commands, decisions, answers, strict=True)
        ]
        return settled, self._read(first, more, take)

    def _wait_command(self, block_ms: int) -> Command:
        """Waits for the next entry of a tenant that has room; when none has, for a result, which makes some."""
        readable = [stream for stream in self._open if stream not in self._full]
        if not readable:
            return ("XREAD", "COUNT", 1, "BLOCK", _FULL_MS, "STREAMS", self._cell.keys.results(), "$")
        patience = min(block_ms, _FULL_MS) if self._full else block_ms
        return self._read_command(dict.fromkeys(readable, ">"), 1, "BLOCK", patience)

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
        """The script's answer; what it could not do is done here, on a connection that does not block.

        What a key of many keeps from being answered is `held`: it stays pending, to be taken over and tried again.
        """
        try:
            return await self._answer(command, decision, answer)
        except WrongKeyType as error:
            return [b"held", str(error).encode()]

    async def _answer(
        self, command: Command, decision: Admission | Rejection, answer: asyncio.Future[Any]
    ) -> list[bytes]:
        try:
            try:
                reply: list[bytes] = await answer
            except ScriptMissing:
                reply = await self._repair.call(*_script_of(decision).full(command))
            if reply[0] in _REFUSALS:
                refusal = self._command(_REFUSALS[reply[0]](decision))
                reply = await self._repair.call(*script("reject").full(refusal))
        except WrongKeyType:
            raise
        except PermanentError as error:
            return await self._bury(decision, str(error))
        return await self._bury(decision, reply[1].decode("utf-8", "replace")) if reply[0] == b"unanswerable" else reply

    async def _bury(self, decision: Admission | Rejection, error: str) -> list[bytes]:
        """Set an entry aside that cannot be answered, because a key of its own holds something else."""
        entry, to, cell = decision.entry, decision.to, self._cell
        log.error(
            "a request cannot be answered and goes to the dead letters",
            extra={"evaluation_id": to.id, "error": error},
        )
        result = decision.result if isinstance(decision, Rejection) else None
        if result is None:
            result = EvaluationResult(id=to.id, tenant=to.tenant, outcome=Outcome.LOST, error=error)
        keys = [*to.keys(cell.keys), cell.keys.dead(), entry.stream, cell.keys.usage()]
        args = [*to.args(cell.delivery), cell.delivery.dead_cap, DISPATCHERS, entry.entry_id]
        about = ("stream", entry.stream, Reason.UNANSWERABLE, error, result.outcome, *result.to_fields())
        await run(self._repair, "bury", keys, [*args, *about])
        return [b"buried"]

    async def ensure(self) -> None:
        """Make the groups of all streams if they are not there, on a server that can carry them.

        What is no stream is closed: one tenant's trouble.

        Raises:
            WrongKeyType: there is none to read.
            Misconfigured: the server cannot carry a cell.
        """
        await self._probe.look()
        self.closed = {}
        for stream in self._streams:
            try:
                await ensure_groups(self._repair, [stream], DISPATCHERS)
            except WrongKeyType as error:
                self.closed[stream] = str(error)
        self._open = [stream for stream in self._streams if stream not in self.closed]
        if not self._open:
            raise WrongKeyType("; ".join(self.closed.values()))
        await self._probe.look_at_group(self._open[0])

    async def leave(self) -> None:
        """Remove this dispatcher's consumer where it holds nothing."""
        for stream in self._open:
            if not await self._repair.call("XPENDING", stream, DISPATCHERS, "-", "+", 1, self._consumer):
                await self._repair.call("XGROUP", "DELCONSUMER", stream, DISPATCHERS, self._consumer)

    async def pending(self) -> AsyncIterator[list[IngressEntry]]:
        """What was delivered to this consumer and never answered, a few at a time: they may be large."""
        behind = dict.fromkeys(self._open, "0")
        while entries := self._entries(await self._channel.call(*self._read_command(behind, _FEW))):
            yield entries
            behind |= {entry.stream: entry.entry_id for entry in entries}

    async def take_over(self, idle_ms: int) -> AsyncIterator[list[IngressEntry]]:
        """Entries that another dispatcher took and never answered, a few at a time."""
        for stream in self._open:
            cursor = b"0-0"
            while True:
                cursor, entries, *_ = await self._repair.call(
                    "XAUTOCLAIM", stream, DISPATCHERS, self._consumer, idle_ms, cursor, "COUNT", _FEW
                )
                yield [_entry(stream, *row) for row in entries]
                if cursor == b"0-0":
                    break

    def _read_command(self, behind: Mapping[str, str], count: int, *options: str | int) -> Command:
        head = ("XREADGROUP", "GROUP", DISPATCHERS, self._consumer, "COUNT", count, *options)
        return (*head, "STREAMS", *behind, *behind.values())

    def _entries(self, reply: Any) -> list[IngressEntry]:
        return [
            _entry(stream.decode(), entry_id, fields)
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


def _entry(stream: str, entry_id: bytes, flat: Sequence[bytes] | None) -> IngressEntry:
    fields, twice = pairs(flat), None
    if flat and 2 * len(fields) < len(flat):
        twice = next(name for name, times in Counter(flat[::2]).items() if times > 1)
    return IngressEntry(stream, entry_id.decode(), fields, twice)


def _script_of(decision: Admission | Rejection) -> Any:
    return script("reject" if isinstance(decision, Rejection) else "admit")


def _without_reply(decision: Admission | Rejection) -> Rejection:
    name = decision.to.reply_to
    return _refused(decision, "reply_to", f"{name} holds another type than a stream; name another or remove it")


def _without_once(decision: Admission | Rejection) -> Rejection:
    return _refused(
        decision, "idempotency_key", "what is kept under it is not ours; choose another", decision.to.reply_to
    )


def _refused(decision: Admission | Rejection, field: str, error: str, reply_to: str = "") -> Rejection:
    to = Destination(decision.to.tenant, decision.to.id, reply_to, decision.to.stream)
    result = EvaluationResult(
        id=to.id, tenant=to.tenant, outcome=Outcome.REJECTED, error=f"{field}: {error}", field=field
    )
    return Rejection(decision.entry, to, result)


_REFUSALS: Final = {b"reply_type": _without_reply, b"once_type": _without_once}
