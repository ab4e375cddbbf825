"""What waits in a lane and should not any more: too old to go on, or ended while it waited."""

from __future__ import annotations

from executor.keys import WORKERS, flaw_of_name
from executor.outcome import Outcome, Reason
from executor.result import EvaluationResult
from executor.streams.channel import pairs
from executor.streams.scripts import run
from executor.streams.server import Cell
from executor.streams.terminal import Known, look_past

_ROUNDS = 10
"""Calls in a row for a lane in which much has become due at once."""
_JANITOR = "janitor"
"""Consumer that reads what is passed over; it exists within one script only."""


class Waiting:
    """Looks after the waiting evaluations of one cell."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._channel = cell.channel("waiting")

    async def too_old(self, count: int) -> list[tuple[Known, bool]]:
        """Evaluations past their largest age or their deadline, oldest first; and whether it is the deadline."""
        seconds, _ = await self._channel.call("TIME")
        now_ms = int(seconds) * 1000
        keys = self._cell.keys
        found = []
        for record in await self._channel.call("ZRANGE", keys.ages(), "-inf", now_ms, "BYSCORE", "LIMIT", 0, count):
            name = keys.evaluation_of(record.decode("utf-8", "replace"))
            if keys.record(*name).encode() != record:
                await self._channel.call("ZREM", keys.ages(), record)  # no script put it there
                continue
            known = await look_past(keys, self._channel, *name)
            found.append((known, known.deadline.isdecimal() and int(known.deadline) <= now_ms))
        return found

    async def expire(self, known: Known, outcome: Outcome, error: str) -> str:
        """End one if nobody runs it: `ended`, `running`, `gone` or `early`."""
        to, delivery = known.to, self._cell.delivery
        result = EvaluationResult(
            id=to.id, tenant=to.tenant, outcome=outcome, error=error, traceparent=known.traceparent
        )
        heartbeat = self._cell.keys.heartbeat(known.owner)
        keys = [*to.keys(self._cell.keys), self._cell.keys.dead(), heartbeat, *self._cell.keys.line(known.lane)]
        own = (round(delivery.lease * 1000), delivery.dead_cap, known.lane, known.owner)
        args = [*to.args(delivery), *own, outcome, *result.to_fields()]
        word: bytes = await run(self._channel, "expire", keys, args)
        return word.decode()

    async def feed(self, lane: str, credit: int, most: int) -> int:
        """Let into a lane what may begin and has room; returns how many went in."""
        delivery = self._cell.delivery
        ttl_ms = round((delivery.max_age + delivery.result_ttl) * 1000)
        keys = [self._cell.keys.lane(lane), *self._cell.keys.line(lane)]
        total, moved, rounds = 0, most, 0
        while moved == most and rounds < _ROUNDS:
            moved, fed = await run(self._channel, "feed", keys, [WORKERS, credit, ttl_ms, most])
            total, rounds = total + int(fed), rounds + 1
        return total

    async def count(self, lane: str) -> tuple[int, int]:
        """How many wait before a lane, and how many may not begin yet."""
        futures = await self._channel.pipeline([("ZCARD", key) for key in self._cell.keys.waiting(lane)])
        waiting, delayed = [await future for future in futures]
        return waiting, delayed

    async def skip_ended(self, lane: str, most: int) -> int:
        """Pass over the undelivered entries at the front of a lane whose evaluations have ended; returns how many."""
        stream = self._cell.keys.lane(lane)
        groups = [pairs(raw) for raw in await self._channel.call("XINFO", "GROUPS", stream)]
        facts = next((one for one in groups if one[b"name"] == WORKERS.encode()), None)
        if facts is None or facts[b"lag"] == 0:
            return 0
        after = "(" + facts[b"last-delivered-id"].decode()
        entries = await self._channel.call("XRANGE", stream, after, "+", "COUNT", most)
        for skipped, (entry_id, flat) in enumerate(entries):
            fields = pairs(flat)
            tenant, name = (fields.get(word, b"").decode("utf-8", "replace") for word in (b"tenant", b"id"))
            flaw = flaw_of_name(tenant, name)
            about = [lane, Reason.CORRUPT, f"a lane entry of no dispatcher: {flaw}"] if flaw else []
            keys = [self._cell.keys.record(tenant[:64], name[:128]), stream, self._cell.keys.dead()]
            args = [WORKERS, _JANITOR, entry_id, self._cell.delivery.dead_cap, name[:128], tenant[:64], "lane", *about]
            if not await run(self._channel, "skip", keys, args):
                return skipped
        return len(entries)
