"""What the system holds at a moment: memory of each program, keys and entries on the server, descriptors, files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bench.stack import BenchStack
from executor.streams.server import Cell
from worker.kernel.tree import descendants

MIB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")

Sample = dict[str, float]
"""Value of each series."""

UNITS = {
    "server memory used": "MiB",
    "server RSS": "MiB",
    "dispatcher RSS": "MiB",
    "worker RSS": "MiB",
    "zygote RSS": "MiB",
    "keepers RSS": "MiB",
    "client RSS": "MiB",
    "keys": "keys",
    "entries in streams": "entries",
    "descriptors": "descriptors",
    "processes": "processes",
    "scratch files": "files",
}
"""Every series and its unit. Memory of a program is its own; the keepers' is their sum, without what they run."""


class Sampler:
    """Looks at the programs and the server of one stack."""

    def __init__(self, stack: BenchStack, dispatcher: int, worker: int, scratch: Path) -> None:
        cell = Cell(stack.url, stack.settings.server, stack.settings.delivery)
        self._cell = cell
        self._channel = cell.channel("sampler")
        self._dispatcher = dispatcher
        self._worker = worker
        self._scratch = scratch
        self._streams: list[str] = []
        self.samples: list[tuple[float, Sample]] = []

    async def take(self) -> Sample:
        """Everything once."""
        sample = await self._look_at_server() | await asyncio.to_thread(self._look_at_programs)
        self.samples.append((time.perf_counter(), sample))
        return sample

    async def keep_taking(self, every: float) -> None:
        """Take a sample now and every few seconds until cancelled."""
        while True:
            await self.take()
            await asyncio.sleep(every)

    async def find_streams(self) -> None:
        """Remember which streams there are; looking for them again would stop the server for a moment."""
        found = [(name, await self._channel.call("TYPE", name)) for name in await self.keys()]
        self._streams = [name for name, kind in found if kind == b"stream"]

    async def server(self) -> str:
        """Name the server, its version and its allocator."""
        facts = await self._info("server") | await self._info("memory")
        version = facts.get("valkey_version", facts["redis_version"])
        return f"{facts.get('server_name', 'redis')} {version}, {facts['mem_allocator']}"

    async def keys(self) -> set[str]:
        """Names of all keys."""
        return {key.decode() for key in await self._channel.call("KEYS", "*")}

    async def close(self) -> None:
        """Disconnect."""
        await self._cell.close()

    async def _look_at_server(self) -> Sample:
        facts = await self._info("memory")
        return {
            "server memory used": int(facts["used_memory"]) / MIB,
            "server RSS": int(facts["used_memory_rss"]) / MIB,
            "keys": await self._channel.call("DBSIZE"),
            "entries in streams": await self._entries(),
        }

    async def _info(self, section: str) -> dict[str, str]:
        text = (await self._channel.call("INFO", section)).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    async def _entries(self) -> int:
        return sum([await self._channel.call("XLEN", name) for name in self._streams])

    def _look_at_programs(self) -> Sample:
        zygotes = descendants(self._worker)[:1]
        keepers = [pid for zygote in zygotes for pid in _children(zygote)]
        below = descendants(self._worker)
        ours = [self._dispatcher, self._worker, *zygotes, *keepers]
        return {
            "dispatcher RSS": _rss([self._dispatcher]),
            "worker RSS": _rss([self._worker]),
            "zygote RSS": _rss(zygotes),
            "keepers RSS": _rss(keepers),
            "client RSS": _rss([os.getpid()]),
            "descriptors": sum(_descriptors(pid) for pid in ours),
            "processes": len(below),
            "scratch files": sum(len(folders) + len(files) for _, folders, files in os.walk(self._scratch)),
        }


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _rss(pids: Iterable[int]) -> float:
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / MIB
    return total


def _descriptors(pid: int) -> int:
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0
