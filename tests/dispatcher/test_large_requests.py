"""Requests at their largest, many at once: a dispatcher holds a few of them, whatever waits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.stack import Stack
from tests.support.wait import wait_until

MIB = 1024 * 1024
REQUESTS = 24
LARGE = "x" * (7 * MIB)


async def test_a_dispatcher_stays_below_its_containers_limit(stack: Stack) -> None:
    """Read by their number alone they took 900 MiB, and the container was killed at every start."""
    ids = [await stack.add(code="pass", stdin=LARGE) for _ in range(REQUESTS)]
    command = [sys.executable, "-m", "cli.main", "dispatcher"]
    process = subprocess.Popen(command, env={**stack.environ, "EXECUTOR_LOG_LEVEL": "error"})
    stack.workers.append(process)  # ended with the stack

    await wait_until(lambda: stack.has_state(ids[-1], "queued"), "all are admitted", 40)

    assert all([await stack.has_state(one, "queued") for one in ids])
    assert peak_mib(process.pid) < 350


def peak_mib(pid: int) -> float:
    """Largest resident memory so far (proc_pid_status(5), VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024
