"""The stack that a benchmark measures: a private server, one dispatcher, one worker, each pinned where asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.embedded import EmbeddedServer
from executor.settings import Settings, load

SERVER_CORE, WORKER_CORE = 0, 1
BARE = Path(__file__).with_name("bare.py")


class BenchStack:
    """Programs of one run.

    Attributes:
        url: of the server.
        settings: that every program here has.
    """

    def __init__(self, server: EmbeddedServer, folder: Path, *, slots: int) -> None:
        policy = folder / "policy.yaml"
        policy.write_text("tenants: {default: {trusted: true}}\n")
        self.url = server.url
        self.environ = {
            "PATH": os.environ["PATH"],  # noqa: TID251 handed to the programs
            "REDIS_URL": server.url,
            "EXECUTOR_POLICY": str(policy),
            "EXECUTOR_SLOTS": str(slots),
            "EXECUTOR_HEALTH_PORT": "-1",
            "EXECUTOR_LOG_LEVEL": "error",
        }
        self.settings: Settings = load(self.environ)
        self._programs: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, core: int | None = None, **variables: str) -> subprocess.Popen[bytes]:
        """Start a module of ours with its arguments, pinned to a core."""
        command = [sys.executable, "-m", *words]
        if core is not None:
            command = ["taskset", "-c", str(core), *command]
        program = subprocess.Popen(command, env={**self.environ, **variables})
        self._programs.append(program)
        return program

    def close(self) -> None:
        """End what was started."""
        for program in self._programs:
            if program.poll() is None:
                program.send_signal(signal.SIGTERM)
        for program in self._programs:
            program.wait()


@contextmanager
def bench_stack(*, slots: int = 2, server_core: int | None = None) -> Iterator[BenchStack]:
    """Server and folder for the length of a block; nothing is left behind."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer()
        stack = BenchStack(server, Path(folder), slots=slots)
        try:
            if server_core is not None:
                os.sched_setaffinity(server.pid, {server_core})
            yield stack
        finally:
            stack.close()
            server.close()


def bare_rate(core: int | None, count: int = 1000) -> float:
    """Bare loops per second in a minimal interpreter: fork, compile and exec a trivial source, output, exit, wait."""
    command = [sys.executable, "-I", "-S", str(BARE), str(count)]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
