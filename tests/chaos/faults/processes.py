"""Faults of programs: killed, frozen, a clock that jumps, an older version beside the new one, none at all."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from random import Random

from tests.chaos.cell import LEASE, ROOT, Cell
from tests.chaos.faults.fault import Harm, fault, strike_worker
from tests.support.processes import children, generation, send


def _worker(cell: Cell, dice: Random) -> tuple[str, int]:
    found = cell.workers()
    return dice.choice(found) if found else ("", 0)


@fault("worker-kill", "")
async def kill_worker(cell: Cell, dice: Random) -> Harm:
    """SIGKILL of a worker's supervisor."""
    name, pid = _worker(cell, dice)
    return await strike_worker(cell, name, lambda: bool(pid) and send(pid, signal.SIGKILL))


@fault("child-kill", "")
async def kill_child(cell: Cell, dice: Random) -> Harm:
    """SIGKILL of children of keepers, busy or forked ahead."""
    _, pid = _worker(cell, dice)
    pids = generation(pid, 3) if pid else []
    for one in pids:
        send(one, signal.SIGKILL)
    return Harm(f"{len(pids)} children", pids=pids)


@fault("keeper-kill", "")
async def kill_keeper(cell: Cell, dice: Random) -> Harm:
    """SIGKILL of one keeper."""
    name, pid = _worker(cell, dice)
    keepers = generation(pid, 2) if pid else []
    return await strike_worker(cell, name, lambda: bool(keepers) and send(dice.choice(keepers), signal.SIGKILL))


@fault("zygote-kill", "")
async def kill_zygote(cell: Cell, dice: Random) -> Harm:
    """SIGKILL of a zygote, and of a keeper that has to be replaced then."""
    name, pid = _worker(cell, dice)
    zygotes = children(pid) if pid else []

    def act() -> bool:
        for zygote in zygotes:
            keepers = children(zygote)
            send(zygote, signal.SIGKILL)
            for keeper in keepers[:1]:
                send(keeper, signal.SIGKILL)
        return bool(zygotes)

    return await strike_worker(cell, name, act)


@fault("worker-freeze", "freeze")
async def freeze_worker(cell: Cell, dice: Random) -> Harm:
    """SIGSTOP of a worker past its lease, then SIGCONT: what it commits then is stale."""
    name, pid = _worker(cell, dice)
    harm = await strike_worker(cell, name, lambda: bool(pid) and send(pid, signal.SIGSTOP))
    await asyncio.sleep(LEASE * dice.uniform(1.3, 2.0))  # the lease has to run out
    if pid:
        send(pid, signal.SIGCONT)
    return harm


@fault("dispatcher-kill", "")
async def kill_dispatcher(cell: Cell, dice: Random) -> Harm:
    """SIGKILL of a dispatcher."""
    return await _kill_kept(cell, dice, "dispatcher")


@fault("dispatcher-freeze", "freeze")
async def freeze_dispatcher(cell: Cell, dice: Random) -> Harm:
    """SIGSTOP of a dispatcher for longer than another waits for its answers, then SIGCONT."""
    found = cell.supervisor.of("dispatcher")
    if not found:
        return Harm("none ran")
    victim = dice.choice(found)
    pid = victim.pid
    send(pid, signal.SIGSTOP)
    await asyncio.sleep(LEASE * dice.uniform(1.3, 2.0))  # what it took has to be taken over
    send(pid, signal.SIGCONT)
    return Harm(victim.name)


@fault("producer-kill", "")
async def kill_producer(cell: Cell, dice: Random) -> Harm:
    """SIGKILL of a producer, perhaps between its XADD and the reply."""
    return await _kill_kept(cell, dice, "producer")


@fault("autoscaler-kill", "zero")
async def kill_autoscaler(cell: Cell, dice: Random) -> Harm:
    """SIGKILL of the autoscaler; its workers go with it."""
    return await _kill_kept(cell, dice, "autoscaler")


@fault("zero", "zero")
async def leave_none(cell: Cell, dice: Random) -> Harm:
    """Every warm worker is killed or drained, and for a while only the autoscaler starts new ones, from zero."""
    number = dice.choice((signal.SIGKILL, signal.SIGTERM))
    kept = cell.supervisor.every("warm")
    for one in kept:
        one.pause()
    for _, pid in cell.workers():
        send(pid, number)
    try:
        await cell.extras.probe("default")
    finally:
        for one in kept:
            one.resume()
    return Harm(number.name)


@fault("clock", "clock")
async def move_clock(cell: Cell, dice: Random) -> Harm:
    """The wall clock of a dispatcher or of a worker jumps, forwards or back, and after a while back again."""
    if not cell.clocks:
        return Harm("no libfaketime")
    file, by = dice.choice(cell.clocks), dice.choice(("+3600", "-3600", "+5", "-5"))
    file.write_text(by)
    await asyncio.sleep(1.5)  # for some hundred evaluations
    file.write_text("+0")
    return Harm(f"{by} s")


@fault("previous", "previous")
async def run_previous(cell: Cell, dice: Random) -> Harm:
    """A worker of the previous commit beside this one's, until it is told to stop."""
    if cell.previous is None:
        cell.previous = await asyncio.to_thread(_unpacked, cell.shape.previous, cell.folder / "previous")
    if not cell.previous:
        return Harm("not in a git checkout")
    worker = cell.add_worker(folder=Path(cell.previous), role="previous")
    await worker.started()
    await asyncio.sleep(dice.uniform(3, 5))  # its start and some hundred evaluations
    await worker.stop()
    return Harm(cell.shape.previous)


async def _kill_kept(cell: Cell, dice: Random, role: str) -> Harm:
    found = cell.supervisor.of(role)
    if not found:
        return Harm("none ran")
    victim = dice.choice(found)
    name = victim.name
    send(victim.pid, signal.SIGKILL)
    return Harm(name)


def _unpacked(revision: str, folder: Path) -> str:
    """A copy of a revision of this repository; empty when there is none."""
    git = ["git", "-C", str(ROOT), "archive", "--format=tar", revision]
    done = subprocess.run(git, capture_output=True, check=False, env={"PATH": os.defpath})
    if done.returncode != 0:
        return ""
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return str(folder)
