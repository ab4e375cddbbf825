"""A process and everything below it: start on a core, pause, weigh, end. Reads /proc, so Linux only.

Imported by the drivers too, in environments that hold nothing but the peer: standard library only.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

STOP_SECONDS = 5.0
"""How long a program may take to end before it is killed; twice that if it has programs of its own to end."""


def spawn(command: Sequence[str], core: int | None, output: int) -> subprocess.Popen[bytes]:
    """Start a program on one core, its output going to a descriptor; the caller's own cores are as before."""
    before = os.sched_getaffinity(0)
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})  # inherited by the child from its first instruction
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    finally:
        os.sched_setaffinity(0, before)


def tree(roots: Iterable[int]) -> list[int]:
    """List the processes at and below the roots and in the sessions they lead, parents before their children."""
    below = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            pid = int(entry.name)
            with contextlib.suppress(OSError):
                _, parent, _, session, *_ = _fields(pid)
                below[int(parent)].append(pid)
                below[int(session)].append(pid)
    found = {pid: None for pid in roots if Path(f"/proc/{pid}").exists()}
    queue = list(found)
    for pid in queue:
        new = [child for child in below[pid] if child not in found]
        found.update(dict.fromkeys(new))
        queue.extend(new)
    return list(found)


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill(root: int) -> None:
    """SIGKILL a process and everything below it at one moment, as the end of a container or a machine would.

    All are stopped first: what is stopped starts nothing that would be missed.
    """
    family: list[int] = []
    while len(found := tree([root])) > len(family):
        family = found
        send(family, signal.SIGSTOP)
    send(family, signal.SIGKILL)


def pss_bytes(roots: Iterable[int]) -> int:
    """Sum the proportional set sizes: a page shared by n processes counts as one n-th in each."""
    total = 0
    for pid in tree(roots):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def started(pid: int) -> str:
    """Return when a process began, in ticks since boot, or nothing if it is gone: tells a pid given away anew."""
    try:
        return _fields(pid)[19]
    except OSError:
        return ""


def end(
    processes: Sequence[subprocess.Popen[bytes]], ask: Callable[[subprocess.Popen[bytes]], None] | None = None
) -> None:
    """Ask the programs to stop, by SIGTERM unless told how; then kill what is left of them and of all they started."""
    # A program that has died without a word is still listed until it is waited for, and so is the session it led.
    roots = [process.pid for process in processes if process.returncode is None]
    family = {pid: started(pid) for pid in tree(roots)}
    send(family, signal.SIGCONT)
    for process in processes:
        (ask or subprocess.Popen.terminate)(process)
    limit = time.monotonic() + (2 if ask else 1) * STOP_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, limit - time.monotonic()))
    send((pid for pid, start in family.items() if start and started(pid) == start), signal.SIGKILL)
    for process in processes:
        process.wait()


def _fields(pid: int) -> list[str]:
    # The program's name stands in parentheses and may hold anything; what follows it begins with the state.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
