"""Looks on while a run goes: every committed result, every entry of a lane, and how long a lag is unknown."""

from __future__ import annotations

import asyncio
from typing import Any

from executor.errors import ExecutorError
from executor.keys import WORKERS, Keys
from executor.streams.channel import Channel, pairs
from tests.chaos.cell import WARM, Cell
from tests.chaos.history import Log, named, now
from tests.chaos.producer import summary

_BLOCK_MS = 500
_LOOK = 0.1
"""Seconds between two looks at the lag."""
JOB = "job.cpu"


class Observer:
    """Three watchers of one cell.

    Attributes:
        committed: how many results were seen.
        names: what they are of.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._keys = Keys(cell.settings.server.prefix)
        self._log: Log = cell.log
        self.committed = 0
        self.names: set[str] = set()
        self._ended: list[str] = []
        self._tasks = [
            asyncio.create_task(self._follow(self._keys.results(), self._take_result), name="results"),
            asyncio.create_task(self._follow(self._keys.lane(WARM), self._take_entry, gaps=WARM), name="lane"),
            asyncio.create_task(self._watch_lag([WARM, JOB]), name="lag"),
        ]

    def take_ended(self) -> list[str]:
        """Names of evaluations that have ended since the last time."""
        found, self._ended = self._ended, []
        return found

    async def close(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _follow(self, stream: str, take: Any, gaps: str = "") -> None:
        """Read a stream from its beginning for ever; what is trimmed while the server is away is a gap."""
        channel, cursor = self._cell.channel("observer"), b"0-0"
        while True:
            try:
                command = ("XREAD", "COUNT", 1000, "BLOCK", _BLOCK_MS, "STREAMS", stream, cursor)
                reply = await channel.call(*command, patience=_BLOCK_MS / 1000)
            except ExecutorError:
                if gaps:
                    self._log.say("gap", lane=gaps)
                await asyncio.sleep(0.02)
                continue
            for entry, flat in reply[0][1] if reply else []:
                cursor = entry
                take(entry.decode(), _texts(flat))

    def _take_result(self, entry: str, facts: dict[str, str]) -> None:
        self.committed += 1
        name = named(facts["tenant"], facts["id"])
        told: dict[str, Any] = {"entry": entry, "outcome": facts["outcome"], "attempt": int(facts.get("attempt", 0))}
        told |= {"worker": facts.get("worker", ""), "error": facts.get("error", "")[:200]}
        if "omitted" not in facts:
            told["stdout"] = summary(facts["stdout"])
        self._log.say("committed", name, **told)
        self.names.add(name)
        self._ended.append(name)

    def _take_entry(self, entry: str, facts: dict[str, str]) -> None:
        name = named(facts["tenant"], facts["id"])
        self._log.say("entered", name, lane=WARM, entry=entry, attempt=int(facts["attempt"]))

    async def _watch_lag(self, lanes: list[str]) -> None:
        channel = self._cell.channel("lag")
        since: dict[str, float] = {}
        while True:
            for lane in lanes:
                try:
                    known = await self._is_known(channel, lane)
                except ExecutorError:
                    known = True  # nothing was seen; the server's absence is a fault of its own
                if not known:
                    since.setdefault(lane, now())
                elif lane in since:
                    self._log.say("nil", lane=lane, began=since.pop(lane), ended=now())
            await asyncio.sleep(_LOOK)

    async def _is_known(self, channel: Channel, lane: str) -> bool:
        for raw in await channel.call("XINFO", "GROUPS", self._keys.lane(lane)):
            facts = pairs(raw)
            if facts[b"name"].decode() == WORKERS:
                return facts[b"lag"] is not None
        return False


def _texts(flat: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode("utf-8", "replace") for name, value in zip(flat[::2], flat[1::2], strict=True)}
