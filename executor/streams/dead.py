"""Dead letters: what ended as lost or could not be answered; to look at, run again or throw away.

They are of the whole cell, whatever tenant a client is for, and for an operator: on a cluster only the user `admin`
may do all of this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final, TypedDict, Unpack

from executor.errors import InvalidField, TransientError, WrongKeyType
from executor.keys import AGAIN_PATTERN, ID_PATTERN, TENANT_PATTERN, WORKERS
from executor.outcome import Reason
from executor.result import EvaluationResult
from executor.streams.history import PastAttempt, read_history
from executor.streams.scripts import run
from executor.streams.server import Cell

_PAGE: Final = 500
_LONGEST_ID: Final = 128
_RECORD: Final = (
    "state", "outcome", "attempt", "max_attempts", "lane", "queued_at", "started_at", "owner",
    "reply_to", "stream", "traceparent", "redrive_of", "redriven_as",
)  # fmt: skip
_NEVER: Final = {
    Reason.CORRUPT: "what is stored for it cannot be read, which would not change; submit it again",
    Reason.UNANSWERABLE: "its request is not kept; mend what `error` names and submit it again",
}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter."""

    entry: str
    """Its own id in the stream."""
    id: str
    """Of the evaluation."""
    tenant: str
    lane: str
    """Empty when it never got into one."""
    stream: str
    """Ingress stream of a request that could not be answered; empty otherwise."""
    reason: str
    """`attempts`, `age`, `corrupt` or `unanswerable` (executor.outcome.Reason)."""
    error: str
    attempts: int
    history: tuple[PastAttempt, ...]
    """The attempts that left no result, first one first."""
    at: int
    """When it was written, server time, ms since the epoch."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, every field in order."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"history": [past.to_json() for past in self.history]}


class Match(TypedDict, total=False):
    """Which letters: those for which everything that is given holds."""

    tenant: str
    lane: str
    reason: str
    id: str
    before: datetime | timedelta
    """Written earlier than this moment, or than so long ago by the server's clock."""
    after: datetime | timedelta
    """Written at this moment or later, or since so long ago."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A letter and what is still known of its evaluation."""

    letter: DeadLetter
    record: dict[str, str] = field(default_factory=dict)
    """State of the evaluation, `payload_bytes` among it (0: its request is not kept); {} when it has expired."""
    result: EvaluationResult | None = None


class DeadLetters:
    """The dead letters of one cell."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._stream = cell.keys.dead()
        self._channel = cell.channel("dead")

    async def letters(self, limit: int | None = None, **match: Unpack[Match]) -> list[DeadLetter]:
        """Letters that match, newest first.

        Args:
            limit: how many at most.
            match: see Match; without any, all.

        Raises:
            InvalidField: a filter that cannot be one.
            ExecutorError: the server cannot answer, or the user may not see them.
        """
        found: list[DeadLetter] = []
        async for page in self._pages(match):
            found += page
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    async def find(self, entry: str) -> DeadLetter | None:
        """The letter of this entry id, None when it is not there any more.

        Raises:
            InvalidField: `entry` is not an entry id.
        """
        _check_entry(entry)
        rows = await self._channel.call("XRANGE", self._stream, entry, entry)
        return _letter(*rows[0]) if rows else None

    async def show(self, entry: DeadLetter | str) -> Shown | None:
        """A letter, its evaluation's record and result; None when the letter is not there any more."""
        letter = entry if isinstance(entry, DeadLetter) else await self.find(entry)
        if letter is None:
            return None
        record, result = self._cell.keys.record(letter.tenant, letter.id), self._cell.keys.result
        values = await self._look(("HMGET", record, *_RECORD))
        size = await self._look(("HSTRLEN", record, "payload"))
        facts = {
            name: value.decode("utf-8", "replace") for name, value in zip(_RECORD, values or (), strict=False) if value
        }
        flat = await self._look(("HGETALL", result(letter.tenant, letter.id)))
        ended = EvaluationResult.from_fields(dict(zip(flat[::2], flat[1::2], strict=True))) if flat else None
        return Shown(letter, facts | {"payload_bytes": str(size)} if facts else {}, ended)

    async def _look(self, command: tuple[str, ...]) -> Any:
        """A reply; None where a key holds something that is not ours, which may be why there is a letter."""
        try:
            return await self._channel.call(*command)
        except WrongKeyType:
            return None

    async def redrive(self, entry: DeadLetter | str) -> str:
        """Run a lost evaluation again, under the id `<id>:again-N`; its letter is gone then.

        It goes into its lane as it was admitted: code, limits, reply stream and trace context are the same, and its
        age begins anew. With the same DeadLetter it is safe to repeat: the answer is that of the first time.

        Returns:
            The new id, of the same tenant.

        Raises:
            InvalidField: it cannot be run again; the reason says why.
            ExecutorError: the server cannot take it now.
        """
        letter = entry if isinstance(entry, DeadLetter) else await self.find(entry)
        if letter is None:
            raise InvalidField("entry", _unknown(str(entry)))
        if letter.reason in _NEVER:
            raise InvalidField("entry", _refusal(letter, _NEVER[Reason(letter.reason)]))
        for again in _ids(letter):
            word, *more = await self._admit(letter, again)
            if word == b"again":
                return str(more[0].decode())
            if word == b"gone":
                raise InvalidField("entry", _unknown(letter.entry))
            if word == b"expired":
                raise InvalidField("entry", _refusal(letter, "its request is not kept any more; submit it again"))
        raise AssertionError("ids do not end")

    async def _admit(self, letter: DeadLetter, again: str) -> list[bytes]:
        keys, delivery, tenant = self._cell.keys, self._cell.delivery, letter.tenant
        names = [keys.record(tenant, letter.id), keys.record(tenant, again), keys.result(tenant, again)]
        names += [keys.lane(letter.lane), keys.ages(), keys.dead(), *keys.line(letter.lane)]
        ttl_ms = round((delivery.max_age + delivery.result_ttl) * 1000)
        args: list[str | int] = [letter.entry, again, ttl_ms, round(delivery.max_age * 1000), WORKERS, delivery.credit]
        try:
            answer: list[bytes] = await run(self._channel, "redrive", names, args)
        except TransientError:  # its answer may be what was lost
            answer = await run(self._channel, "redrive", names, args)
        return answer

    async def purge(
        self, entry: DeadLetter | str | None = None, *, everything: bool = False, **match: Unpack[Match]
    ) -> int:
        """Throw letters away; what they are about cannot be run again then. Returns how many there were.

        Args:
            entry: this one; or
            everything: all there are; or
            match: those that match.

        Raises:
            InvalidField: nothing says which, or more than one thing does.
        """
        if (entry is not None) + everything + bool(match) != 1:
            raise InvalidField("everything", "give an entry, or filters, or everything=True for all dead letters")
        if entry is not None:
            name = entry.entry if isinstance(entry, DeadLetter) else entry
            _check_entry(name)
            return int(await self._channel.call("XDEL", self._stream, name))
        gone = 0
        async for page in self._pages(match):
            if page:
                gone += await self._channel.call("XDEL", self._stream, *(letter.entry for letter in page))
        return gone

    async def _pages(self, match: Match) -> AsyncIterator[list[DeadLetter]]:
        """What matches of each page, newest first; letters that are written meanwhile are not seen."""
        wanted = _wanted(match)
        newest, oldest = await self._bound(match.get("before"), "+"), await self._bound(match.get("after"), "-")
        end = newest if newest == "+" else f"({newest}"
        while newest != "0-0":  # before which the server takes no id
            rows = await self._channel.call("XREVRANGE", self._stream, end, oldest, "COUNT", _PAGE)
            letters = [_letter(*row) for row in rows]
            yield [one for one in letters if all(getattr(one, name) == value for name, value in wanted.items())]
            if len(rows) < _PAGE:
                return
            end = f"({letters[-1].entry}"

    async def _bound(self, moment: datetime | timedelta | None, otherwise: str) -> str:
        """First entry id of a moment's millisecond."""
        if moment is None:
            return otherwise
        if isinstance(moment, datetime):
            at_ms = moment.timestamp() * 1000
        else:
            seconds, micros = await self._channel.call("TIME")
            at_ms = int(seconds) * 1000 + int(micros) / 1000 - moment.total_seconds() * 1000
        return f"{max(0, int(at_ms))}-0"


def _wanted(match: Match) -> dict[str, str]:
    wanted = {name: str(value) for name, value in match.items() if name not in ("before", "after")}
    for name, value in wanted.items():
        if name not in Match.__annotations__:
            raise InvalidField(name, f"no filter; they are {', '.join(Match.__annotations__)}")
        if not value:
            raise InvalidField(name, "is empty; leave it out to match any")
    if "reason" in wanted and wanted["reason"] not in set(Reason):
        raise InvalidField("reason", f"{wanted['reason'][:40]!r} is none of {', '.join(Reason)}")
    if "tenant" in wanted and TENANT_PATTERN.fullmatch(wanted["tenant"]) is None:
        raise InvalidField("tenant", f"{wanted['tenant'][:80]!r} cannot be a tenant's name")
    if "id" in wanted and ID_PATTERN.fullmatch(wanted["id"]) is None:
        raise InvalidField("id", f"{wanted['id'][:140]!r} cannot be an evaluation's id")
    return wanted


def _check_entry(entry: str) -> None:
    head, _, tail = entry.partition("-")
    if not (head + tail).isascii() or not head.isdigit() or not tail.isdigit() or max(int(head), int(tail)) >= 2**64:
        raise InvalidField("entry", f"{entry[:80]!r} is not the id of a dead letter, as 1700000000000-0 is")


def _unknown(entry: str) -> str:
    return f"there is no dead letter {entry}: it was redriven, purged or pushed out, or that is an evaluation's id"


def _refusal(letter: DeadLetter, why: str) -> str:
    return f"{letter.entry} ({letter.id}) cannot be run again: {why}"


def _ids(letter: DeadLetter) -> Iterator[str]:
    """Ids to run it again under, counted up from its own."""
    parts = AGAIN_PATTERN.fullmatch(letter.id)
    base, number = (parts[1], int(parts[2])) if parts else (letter.id, 0)
    for times in count(number + 1):
        again = f"{base}:again-{times}"
        if len(again) > _LONGEST_ID:
            why = f"its id would be {len(again)} characters long ({again}), at most {_LONGEST_ID} are taken"
            raise InvalidField("entry", _refusal(letter, f"{why}; submit it again under a shorter one"))
        yield again


def _letter(entry: bytes, flat: list[bytes]) -> DeadLetter:
    """Read an entry; earlier versions wrote fewer fields."""
    words = [word.decode("utf-8", "replace") for word in flat]
    facts = dict(zip(words[::2], words[1::2], strict=True))

    def number(name: str, otherwise: int) -> int:
        text = facts.get(name, "")
        return int(text) if text.isdecimal() else otherwise

    return DeadLetter(
        entry=entry.decode(),
        id=facts.get("id", ""),
        tenant=facts.get("tenant", ""),
        lane=facts.get("lane", ""),
        stream=facts.get("stream", ""),
        reason=facts.get("reason", ""),
        error=facts.get("error", ""),
        attempts=number("attempts", 0),
        history=read_history(facts.get("history", "")),
        at=number("at", int(entry.partition(b"-")[0])),
    )
