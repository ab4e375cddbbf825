"""What a caller does: add a request, follow replies and output, read a result, take an evaluation back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from executor.errors import BacklogFull, NotAuthorized
from executor.keys import DISPATCHERS
from executor.outcome import Outcome
from executor.result import EvaluationResult
from executor.streams.channel import Command, pairs
from executor.streams.scripts import run
from executor.streams.server import Cell
from executor.streams.terminal import Known, look_up

Entry = tuple[bytes, dict[bytes, bytes]]
"""Entry id and fields."""


_AT_ONCE: Final = 500
"""Requests in one call of the script: it holds the server for about 2 ms."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to add."""

    id: str
    packed: bytes
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of it."""

    id: str
    """Of the evaluation that has the result: the first one's, if the idempotency key was used before."""
    state: str
    """`submitted`, or what the record says of one that was known."""
    entry_id: str = ""
    """Of the ingress entry; empty when it was known, and nothing was added."""


class Caller:
    """A caller's side. Blocking reads have a connection of their own."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._commands = cell.channel("caller")
        self._reader = cell.channel("caller-reader")

    async def enqueue(self, tenant: str, requests: Sequence[Submission]) -> list[Enqueued]:
        """Add requests to a tenant's ingress; plainly, when this user may not run the script that knows what is known.

        Raises:
            BacklogFull: the tenant has as much open as it may; says which ids were taken before.
        """
        done: list[Enqueued] = []
        for start in range(0, len(requests), _AT_ONCE):
            some = requests[start : start + _AT_ONCE]
            try:
                word, *answers = await run(self._commands, "enqueue", *self._enqueue(tenant, some))
            except NotAuthorized:
                word, *answers = [b"taken", *await self._append(tenant, some)]
            if word == b"full":
                raise BacklogFull(tenant, int(answers[0]), int(answers[1]), [one.id for one in done])
            done += [_enqueued(one, answer) for one, answer in zip(some, answers, strict=True)]
        return done

    async def _append(self, tenant: str, requests: Sequence[Submission]) -> list[list[bytes]]:
        stream = self._cell.keys.requests(tenant)
        commands: list[Command] = [("XADD", stream, "*", "request", one.packed) for one in requests]
        return [[await future] for future in await self._commands.pipeline(commands)]

    def _enqueue(self, tenant: str, requests: Sequence[Submission]) -> tuple[list[str], list[str | bytes]]:
        keys = self._cell.keys
        args: list[str | bytes] = [DISPATCHERS, keys.usage(), keys.quotas(), tenant]
        for one in requests:
            once = keys.once(tenant, one.idempotency_key) if one.idempotency_key else ""
            args += [one.id, keys.record(tenant, one.id), once, one.packed]
        return [keys.requests(tenant)], args

    async def read(self, cursors: Mapping[str, bytes], block_ms: int) -> dict[str, list[Entry]]:
        """Wait for entries behind the cursors; {} when there was none in time."""
        head = ("XREAD", "COUNT", 1000, "BLOCK", block_ms, "STREAMS")
        reply = await self._reader.call(*head, *cursors, *cursors.values(), patience=block_ms / 1000)
        return {stream.decode(): [(entry_id, pairs(flat)) for entry_id, flat in rows] for stream, rows in reply or []}

    async def reader_id(self) -> int:
        """Server-side id of the reading connection."""
        found: int = await self._reader.call("CLIENT", "ID")
        return found

    async def wake(self, reader_id: int) -> None:
        """Make a blocked read return, so that it can be repeated with other streams."""
        await self._commands.call("CLIENT", "UNBLOCK", reader_id)

    async def result(self, tenant: str, evaluation_id: str) -> EvaluationResult | None:
        """The committed result, None while there is none; of the first one, if its idempotency key was used before."""
        keys = self._cell.keys
        flat = await self._commands.call("HGETALL", keys.result(tenant, evaluation_id))
        if not flat:
            (first,) = await self._commands.call("HMGET", keys.record(tenant, evaluation_id), "duplicate_of")
            flat = await self._commands.call("HGETALL", keys.result(tenant, first.decode())) if first else None
        return EvaluationResult.from_fields(pairs(flat)) if flat else None

    async def answered(self, tenant: str, evaluation_ids: Sequence[str]) -> list[str]:
        """Which of some evaluations have a result, or are known to have that of a first one; in one trip."""
        keys = self._cell.keys
        commands: list[Command] = []
        for evaluation_id in evaluation_ids:
            commands.append(("HMGET", keys.result(tenant, evaluation_id), "outcome"))
            commands.append(("HMGET", keys.record(tenant, evaluation_id), "duplicate_of"))
        found = await asyncio.gather(*await self._commands.pipeline(commands))
        pairs_of = zip(evaluation_ids, found[::2], found[1::2], strict=True)
        return [evaluation_id for evaluation_id, (outcome,), (first,) in pairs_of if outcome or first]

    async def state(self, tenant: str, evaluation_id: str) -> dict[str, str]:
        """What the record says of an evaluation; {} when it is not known."""
        names = ("state", "attempt", "owner", "lane", "outcome", "redriven_as", "duplicate_of")
        values = await self._commands.call("HMGET", self._cell.keys.record(tenant, evaluation_id), *names)
        return {name: value.decode() for name, value in zip(names, values, strict=True) if value}

    async def cancel(self, tenant: str, evaluation_id: str) -> tuple[str, str, Known]:
        """Take an evaluation back.

        Returns:
            (`cancelled`, ""), (`cancelling`, worker), (`done`, outcome), (`duplicate`, the first one's id) or
            (`unknown`, ""); and what was known of it.
        """
        known = await look_up(self._cell.keys, self._commands, tenant, evaluation_id)
        if known.state == "duplicate":
            return "duplicate", (await self.state(tenant, evaluation_id))["duplicate_of"], known
        if not known.state:
            return "unknown", "", known  # the script might find it already, and not know where to reply
        to = known.to
        result = EvaluationResult(
            id=evaluation_id,
            tenant=tenant,
            outcome=Outcome.CANCELLED,
            error="cancelled before it ran",
            traceparent=known.traceparent,
        )
        args = [*to.args(self._cell.delivery), self._cell.keys.control(""), *result.to_fields()]
        word, *more = await run(
            self._commands, "cancel", [*to.keys(self._cell.keys), *self._cell.keys.line(known.lane)], args
        )
        return word.decode(), more[0].decode() if more else "", known


def _enqueued(request: Submission, answer: list[Any]) -> Enqueued:
    entry_id, *known = (word.decode() for word in answer)
    return Enqueued(*known) if known else Enqueued(request.id, "submitted", entry_id)
