"""Faults of the server: a crash, a failover, no memory, no scripts."""

from __future__ import annotations

import asyncio
from random import Random

from executor.errors import ExecutorError
from tests.chaos.cell import Cell
from tests.chaos.faults.fault import Harm, fault
from tests.chaos.resp import primary_of

_FAILOVER = 20.0


@fault("server-kill", "server")
async def kill_server(cell: Cell, dice: Random) -> Harm:
    """SIGKILL of the server; after a while it starts again from its append-only file."""
    await cell.servers.primary.kill()
    away = dice.uniform(0, 1.5)
    await asyncio.sleep(away)  # programs shall meet a port that nobody listens on
    await cell.servers.primary.start()
    return Harm(f"away {away:.1f} s")


@fault("failover", "server")
async def promote_replica(cell: Cell, dice: Random) -> Harm:
    """SIGKILL of the primary; its sentinels promote the replica, and it comes back as one."""
    before = await primary_of(cell.servers.url())
    old = cell.servers.by_port(int(before.rpartition(":")[2]))
    await old.kill()
    async with asyncio.timeout(_FAILOVER):
        while await primary_of(cell.servers.url()) == before:
            await asyncio.sleep(0.05)  # a sentinel's word has no event here
    await asyncio.sleep(dice.uniform(0.5, 1.5))  # the new primary shall have work that the old one does not know of
    await old.start()
    await cell.servers.replicated()
    return Harm(f"port {old.port} gave way")


@fault("memory-full", "server")
async def fill_memory(cell: Cell, dice: Random) -> Harm:
    """The server is above its maxmemory: what adds is refused, what ends work is not."""
    seconds = dice.uniform(0.5, 2)
    await _set(cell, "maxmemory", "1")
    await asyncio.sleep(seconds)  # how long it stays full is the fault
    await _set(cell, "maxmemory", "0")
    return Harm(f"{seconds:.1f} s")


@fault("script-flush", "")
async def flush_scripts(cell: Cell, _dice: Random) -> Harm:
    """The server forgets every script."""
    try:
        await cell.looking.call("SCRIPT", "FLUSH", "SYNC")
    except ExecutorError as error:
        return Harm(str(error))
    return Harm()


async def _set(cell: Cell, name: str, value: str) -> None:
    for _ in range(100):
        try:
            await cell.looking.call("CONFIG", "SET", name, value)
            return
        except ExecutorError:
            await asyncio.sleep(0.1)
    raise AssertionError(f"the server does not take {name} {value}")
