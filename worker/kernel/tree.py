"""The process tree of an evaluation: who belongs to it, what it uses, and its end.

A keeper is a child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)): whatever an evaluation forks, and however often it
calls setsid or double-forks, is reparented to its keeper and stays findable as the keeper's descendants.
Sources: proc(5) for children, statm, stat and smaps_rollup.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


class Usage:
    """What reaped processes used: CPU seconds in all, resident bytes of the largest."""

    def __init__(self) -> None:
        self.cpu = 0.0
        self.max_rss = 0


class Sample(NamedTuple):
    """What a tree uses at this moment."""

    tasks: int
    """Processes and threads."""
    rss: int
    """Sum of resident bytes; pages shared after a fork count in each process."""
    cpu: float
    """CPU seconds of the living and of what they have waited for."""


def descendants(root: int) -> list[int]:
    """Process ids below a process, parents before children."""
    found, unseen = [], [root]
    while unseen:
        below = _children(unseen.pop())
        found += below
        unseen += below
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def sample(root: int) -> Sample:
    """Add up what everything below a process uses."""
    tasks, pages, ticks = 0, 0, 0
    for pid in descendants(root):
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        if not fields or fields[0] in (b"Z", b"X"):
            continue
        ticks += sum(map(int, fields[11:15]))
        tasks += int(fields[17])
        pages += int(fields[21])
    return Sample(tasks, pages * _PAGE, ticks / _TICK)


def proportional_rss(root: int) -> int:
    """Resident bytes below a process with shared pages counted once (PSS); slow, for a tree that looks too large."""
    total = 0
    for pid in descendants(root):
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def end(usage: Usage) -> bool:
    """Kill and reap everything below this process; returns whether there was anything.

    Kills what it sees and waits, again and again, until the kernel says that there is no child left: a process that
    forks meanwhile is seen in the next round, and a killed one forks no more.
    """
    found = False
    while True:
        try:
            pid, _, used = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                for victim in descendants(os.getpid()):
                    kill(victim)
                _, _, used = os.wait4(-1, 0)
        except ChildProcessError:
            return found
        found = True
        add(usage, used)


def add(usage: Usage, used: object) -> None:
    """Count a reaped process (a resource.struct_rusage)."""
    usage.cpu += used.ru_utime + used.ru_stime  # type: ignore[attr-defined]
    usage.max_rss = max(usage.max_rss, used.ru_maxrss * 1024)  # type: ignore[attr-defined]


def kill_group(leader: int) -> None:
    """SIGKILL a child that is not reaped yet, and at once everything in its process group.

    One signal to the group reaches what forks faster than it could be listed. The child itself is named as well,
    because it leads its group only once it has called setsid.
    """
    for send in (os.kill, os.killpg):
        try:
            send(leader, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def kill(pid: int) -> None:
    """SIGKILL, if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _read(path: str) -> bytes:
    """A file of /proc; empty when its process has ended meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
    finally:
        os.close(fd)
