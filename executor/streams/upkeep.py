"""What the janitor does: rescue expired leases, trim, keep lag exact, forget dead workers; and what it can see."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from executor.errors import GroupMissing, PermanentError
from executor.keys import WORKERS
from executor.outcome import Outcome
from executor.result import EvaluationResult
from executor.streams.channel import pairs
from executor.streams.scripts import run
from executor.streams.server import Cell, ensure_groups
from executor.streams.terminal import Known, look_past

_GONE_AFTER: Final = 4
"""Leases without a word from a consumer that holds nothing; whoever lives says something in each."""


@dataclass(frozen=True, slots=True)
class LaneView:
    """What a lane holds at this moment."""

    lag: int | None
    """Undelivered entries; None when the server cannot tell."""
    pending: int
    """Delivered and not acknowledged."""
    oldest_ms: float
    """Age of the oldest entry that is not acknowledged, ms; 0 without one."""


@dataclass(frozen=True, slots=True)
class ExecutorView:
    """One registered worker."""

    id: str
    alive: bool
    facts: dict[str, Any]

    @property
    def busy(self) -> int:
        """Evaluations that it runs, as far as it says."""
        busy = self.facts.get("busy")
        return busy if isinstance(busy, int) else 0


class Upkeep:
    """Looks after streams on one channel."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._channel = cell.channel("upkeep")

    async def view(self, lane: str) -> LaneView:
        """Lag, pending and age of a lane; zeros when it does not exist."""
        stream = self._cell.keys.lane(lane)
        groups_future, time_future = await self._channel.pipeline([("XINFO", "GROUPS", stream), ("TIME",)])
        try:
            groups = [_info(raw) for raw in await groups_future]
        except PermanentError as error:
            await time_future
            if "no such key" not in str(error):
                raise
            return LaneView(0, 0, 0.0)
        seconds, micros = await time_future
        group = next((item for item in groups if item["name"] == WORKERS.encode()), None)
        if group is None:
            return LaneView(await self._channel.call("XLEN", stream), 0, 0.0)
        oldest = await self._oldest(stream, group)
        age = int(seconds) * 1000 + int(micros) / 1000 - oldest if oldest else 0.0
        return LaneView(group["lag"], group["pending"], max(0.0, age))

    async def _oldest(self, stream: str, group: dict[str, Any]) -> int:
        """Time part of the oldest open entry's id, 0 without one."""
        ids = []
        if group["pending"]:
            ids.append((await self._channel.call("XPENDING", stream, WORKERS))[1])  # None: acknowledged meanwhile
        if group["lag"] != 0:
            start = "(" + group["last-delivered-id"].decode()
            ids += [entry[0] for entry in await self._channel.call("XRANGE", stream, start, "+", "COUNT", 1)]
        return min((int(entry_id.split(b"-")[0]) for entry_id in ids if entry_id), default=0)

    async def lanes(self) -> list[str]:
        """Names of all lanes that exist, sorted; a key of another type under such a name is none."""
        head = self._cell.keys.lane("")
        found = self._scan(f"{_glob(head)}*", "TYPE", "stream")
        names = [key.decode().removeprefix(head) async for key in found if key.isascii()]
        return sorted(names)

    async def _scan(self, pattern: str, *options: str) -> AsyncIterator[bytes]:
        cursor = b"0"
        while True:
            cursor, found = await self._channel.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, *options)
            for key in found:
                yield key
            if cursor == b"0":
                return

    async def ensure(self, lanes: Sequence[str]) -> list[str]:
        """Make the group of each lane that has none; returns those lanes."""
        streams = [self._cell.keys.lane(lane) for lane in lanes]
        made = await ensure_groups(self._channel, streams, WORKERS)
        return [lane for lane, stream in zip(lanes, streams, strict=True) if stream in made]

    async def executors(self) -> list[ExecutorView]:
        """Every registered worker and whether its heartbeat stands."""
        flat = await self._channel.call("HGETALL", self._cell.keys.executors())
        found = [(name.decode("utf-8", "replace"), _facts(value)) for name, value in pairs(flat).items()]
        if not found:
            return []
        probes = [("EXISTS", self._cell.keys.heartbeat(name)) for name, _ in found]
        alive = [await future for future in await self._channel.pipeline(probes)]
        return [ExecutorView(name, bool(beats), facts) for (name, facts), beats in zip(found, alive, strict=True)]

    async def forget(self, executor: ExecutorView) -> bool:
        """Remove a dead worker's registration, and its consumer if it holds nothing."""
        lane = str(executor.facts.get("lane", ""))
        keys = [self._cell.keys.lane(lane), self._cell.keys.executors(), self._cell.keys.heartbeat(executor.id)]
        try:
            return bool(await run(self._channel, "leave", keys, [WORKERS, executor.id]))
        except GroupMissing:
            return True

    async def reap(self, stream: str, group: str) -> list[str]:
        """Remove consumers that hold nothing and have done nothing for `_GONE_AFTER` leases; returns their names."""
        idle_ms = round(self._cell.delivery.lease * 1000 * _GONE_AFTER)
        names: list[bytes] = await run(self._channel, "reap", [stream], [group, idle_ms])
        return [name.decode("utf-8", "replace") for name in names]

    async def tidy(self, stream: str, group: str) -> tuple[int, bool]:
        """Trim a stream behind what is finished; returns entries removed and whether a nil lag was repaired."""
        trimmed, repaired = await run(self._channel, "tidy", [stream], [group])
        return trimmed, bool(repaired)

    async def expired(self, lane: str, count: int) -> list[tuple[str, str, str]]:
        """Entries whose lease has run out: (entry id, tenant, evaluation id)."""
        stream, idle = self._cell.keys.lane(lane), round(self._cell.delivery.lease * 1000)
        rows = await self._channel.call("XPENDING", stream, WORKERS, "IDLE", idle, "-", "+", count)
        found = []
        for entry_id, *_ in rows:
            for _, flat in await self._channel.call("XRANGE", stream, entry_id, entry_id):
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                tenant, evaluation_id = (
                    fields.get(name, b"").decode("utf-8", "replace") for name in (b"tenant", b"id")
                )
                found.append((entry_id.decode(), tenant, evaluation_id))
        return found

    async def rescue(self, lane: str, entry_id: str, tenant: str, evaluation_id: str) -> tuple[str, Known]:
        """Give an expired entry back to the lane, or end it as lost: `alive`, `gone`, `requeued` or `lost`."""
        delivery = self._cell.delivery
        known = await look_past(self._cell.keys, self._channel, tenant, evaluation_id)
        to = known.to
        error = "its workers went away in every attempt; the attempts are in the dead letters"
        result = EvaluationResult(
            id=evaluation_id, tenant=tenant, outcome=Outcome.LOST, error=error, traceparent=known.traceparent
        )
        keys = [
            *to.keys(self._cell.keys),
            self._cell.keys.lane(lane),
            self._cell.keys.dead(),
            *self._cell.keys.line(lane),
        ]
        args = [*to.args(delivery), WORKERS, entry_id, round(delivery.lease * 1000), delivery.dead_cap]
        jitter = random.random()  # noqa: S311 spreads attempts, hides nothing
        word: bytes = await run(self._channel, "rescue", keys, [*args, jitter, *result.to_fields()])
        return word.decode(), known


def _facts(registration: bytes) -> dict[str, Any]:
    """What a worker wrote of itself; {} when it was none of ours."""
    try:
        found = json.loads(registration)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _info(flat: list[Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _glob(literal: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in literal)
