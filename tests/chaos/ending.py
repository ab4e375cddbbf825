"""What is left when a run is over: what the server still says, and what server and machine should not hold any more."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

from executor.keys import DISPATCHERS, WORKERS, Keys
from executor.streams.channel import Channel, pairs
from tests.chaos.cell import SLOTS, WARM, Cell
from tests.chaos.history import named
from tests.chaos.observer import JOB
from tests.chaos.programs import TRUSTED, UNTRUSTED
from tests.conftest import PERSISTENT
from tests.support.processes import command_of, state
from tests.support.wait import wait_until
from worker.kernel.tree import descendants

_PATIENCE = 20.0
"""Seconds that everything may take to come to rest: leases, the janitor, consumers of the dead."""
_SPARE_DESCRIPTORS = 4
_RECORD = ("state", "attempt", "generation", "outcome", "duplicate_of", "queued_at", "lane", "priority", "entry")


class Ending:
    """Looks at the server and the machine at the end."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._keys = Keys(cell.settings.server.prefix)
        self._redis: Channel = cell.channel("ending")

    async def tell_records(self, names: Iterable[str]) -> None:
        """Put what the records, reply streams and dead letters say into the history."""
        wanted = list(names)
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            commands = [("HMGET", self._keys.record(*name.split("/", 1)), *_RECORD) for name in part]
            for name, future in zip(part, await self._redis.pipeline(commands), strict=True):
                values = [value.decode() if value is not None else None for value in await future]
                self._cell.log.say("record", name, **dict(zip(_RECORD, values, strict=True)))
        for key in await self._redis.call("KEYS", self._keys.reply("*")):
            async for facts in self._entries(key.decode()):
                told = {"duplicate": "duplicate" in facts or "duplicate_of" in facts, "outcome": facts.get("outcome")}
                self._cell.log.say("reply", named(facts["tenant"], facts["id"]), stream=key.decode(), **told)
        async for facts in self._entries(self._keys.dead()):
            told = {word: facts.get(word, "") for word in ("reason", "attempts", "history")}
            self._cell.log.say("letter", named(facts["tenant"], facts["id"]), **told)

    async def _entries(self, stream: str) -> AsyncIterator[dict[str, str]]:
        cursor = "-"
        while rows := await self._redis.call("XRANGE", stream, cursor, "+", "COUNT", 1000):
            for entry, flat in rows:
                cursor = "(" + entry.decode()
                yield {name.decode(): value.decode("utf-8", "replace") for name, value in pairs(flat).items()}

    async def tell_server(self) -> None:
        """What a server at rest should not hold: a lag, something pending or waiting, keys that stay for ever."""
        try:
            await wait_until(self._at_rest, "the server is at rest", _PATIENCE)
        except AssertionError:
            for what in await self._restless():
                self._cell.log.say("left", what=what)

    async def _at_rest(self) -> bool:
        return not await self._restless()

    async def _restless(self) -> list[str]:
        found = []
        streams = [(self._keys.lane(lane), WORKERS) for lane in (WARM, JOB)]
        streams += [(self._keys.requests(tenant), DISPATCHERS) for tenant in (*TRUSTED, UNTRUSTED)]
        for stream, group in streams:
            length = await self._redis.call("XLEN", stream)
            if length > 1:
                found.append(f"{stream} holds {length} entries")
            for raw in await self._redis.call("XINFO", "GROUPS", stream):
                facts = pairs(raw)
                if facts[b"lag"] != 0 or facts[b"pending"] != 0:
                    found.append(f"{stream} has lag {facts[b'lag']}, pending {facts[b'pending']}")
            found += await self._strange_consumers(stream, group)
        found += [f"{key} is without a TTL" for key in await self._immortal()]
        for key in {*self._keys.line(WARM), *self._keys.line(JOB), self._keys.ages()} - {self._keys.quotas()}:
            if await self._redis.call("EXISTS", key):
                found.append(f"{key} is still there")
        return found

    async def _strange_consumers(self, stream: str, group: str) -> list[str]:
        """Consumers of programs that are gone. A dispatcher that was killed leaves one that holds nothing."""
        alive = {name for name, _ in self._cell.workers()}
        if group == DISPATCHERS:
            return []
        rows = [pairs(raw) for raw in await self._redis.call("XINFO", "CONSUMERS", stream, group)]
        names = {row[b"name"].decode() for row in rows}
        registered = {name.decode() for name in await self._redis.call("HKEYS", self._keys.executors())}
        return [f"{name} is known to {stream} or the registry and gone" for name in (names | registered) - alive]

    async def _immortal(self) -> list[str]:
        prefix, found = self._keys.prefix, []
        cursor = b"0"
        while True:
            cursor, keys = await self._redis.call("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 1000)
            ttls = await self._redis.pipeline([("PTTL", key) for key in keys])
            for key, future in zip([one.decode() for one in keys], ttls, strict=True):
                persists = key.removeprefix(f"{prefix}:").partition(":")[0] in PERSISTENT
                if await future == -1 and not persists and key != self._keys.executors():
                    found.append(key)
            if cursor == b"0":
                return found

    async def all_serve(self) -> None:
        """Wait until every dispatcher and worker that is kept running reads."""
        dispatchers = {one.name for one in self._cell.supervisor.every("dispatcher")}
        workers = {one.name for one in self._cell.supervisor.every("warm")}

        async def serve() -> bool:
            rows = await self._redis.call("XINFO", "CONSUMERS", self._keys.requests(), DISPATCHERS)
            reading = {pairs(raw)[b"name"].decode() for raw in rows}
            known = {name.decode() for name in await self._redis.call("HKEYS", self._keys.executors())}
            return dispatchers <= reading and workers <= known

        await wait_until(serve, "all dispatchers and workers serve", _PATIENCE)

    def descriptors(self) -> dict[str, int]:
        """How many descriptors dispatchers and workers have open, the most of each."""
        found: dict[str, int] = {}
        for role in ("dispatcher", "warm"):
            for one in self._cell.supervisor.of(role):
                with suppress(OSError):
                    found[role] = max(found.get(role, 0), len(os.listdir(f"/proc/{one.pid}/fd")))
        return found

    def tell_descriptors(self, before: dict[str, int]) -> None:
        """Programs that have more descriptors open than at their start."""
        for role, count in self.descriptors().items():
            if count > before[role] + _SPARE_DESCRIPTORS:
                self._cell.log.say("left", what=f"a {role} has {count} descriptors open, {before[role]} at its start")

    def tell_trees(self) -> None:
        """Workers at rest with more below them than a zygote, its keepers, and a child forked ahead for each."""
        for name, pid in self._cell.workers():
            below = descendants(pid)
            if len(below) > 1 + 2 * (SLOTS + 1):
                self._cell.log.say("left", what=f"worker {name} has {len(below)} processes below it")

    async def tell_machine(self) -> None:
        """What every program that has ended must not leave: processes, scratch folders."""

        def quiet() -> bool:
            return not self._processes() and not any((self._cell.folder / "scratch").iterdir())

        try:
            await wait_until(quiet, "processes and scratch folders are gone", _PATIENCE)
        except AssertionError:
            for pid in self._processes():
                self._cell.log.say("left", what=f"process {pid}: {' '.join(command_of(pid))[:200]}")
            for path in (self._cell.folder / "scratch").iterdir():
                self._cell.log.say("left", what=f"scratch folder {path.name}")

    def _processes(self) -> list[int]:
        """Descendants that are neither servers nor dead."""
        found = []
        for pid in descendants(os.getpid()):
            words = command_of(pid)
            if words and "valkey" not in words[0] and state(pid) not in ("Z", ""):
                found.append(pid)
        return found
