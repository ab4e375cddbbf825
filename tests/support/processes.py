"""Looking at processes by way of /proc (proc(5)), and signalling them."""

from __future__ import annotations

import os
from pathlib import Path

from worker.kernel.tree import descendants


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    return [one for one in descendants(pid) if parent(one) == pid]


def generation(pid: int, number: int) -> list[int]:
    """Processes so many steps below one."""
    found = [pid]
    for _ in range(number):
        found = [child for one in found for child in children(one)]
    return found


def state(pid: int) -> str:
    """The letter of proc(5); empty when there is no such process."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def parent(pid: int) -> int:
    """Process id of the parent, 0 when there is no such process."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def command_of(pid: int) -> list[str]:
    """Argument list of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def variable_of(pid: int, name: str) -> str:
    """A variable of the environment that a process was started with."""
    try:
        pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return ""
    return next((pair.partition("=")[2] for pair in pairs if pair.startswith(name + "=")), "")


def send(pid: int, number: int) -> bool:
    """Signal a process; False when it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
