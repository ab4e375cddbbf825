"""The stack that a benchmark measures: a private server, one dispatcher, one worker, each pinned where asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
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

    def __init__(self, url: str, folder: Path, *, slots: int, variables: Mapping[str, str]) -> None:
        policy = folder / "policy.yaml"
        policy.write_text("tenants: {default: {trusted: true}}\n")
        self.url = url
        self.environ = {
            "PATH": os.environ["PATH"],  # noqa: TID251 handed to the programs
            "REDIS_URL": url,
            "EXECUTOR_POLICY": str(policy),
            "EXECUTOR_SLOTS": str(slots),
            "EXECUTOR_HEALTH_PORT": "-1",
            "EXECUTOR_LOG_LEVEL": "error",
            **variables,
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
def bench_stack(
    *,
    slots: int = 2,
    server_core: int | None = None,
    aof: bool = False,
    url: str = "",
    variables: Mapping[str, str] | None = None,
) -> Iterator[BenchStack]:
    """Server and folder for the length of a block; nothing is left behind.

    Args:
        slots: of a worker.
        server_core: that the server is pinned to.
        aof: whether the server writes an append-only file, as it does in production.
        url: of another server, to be used instead of the one that is started.
        variables: further settings of all programs.
    """
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) if aof else None)
        stack = BenchStack(url or server.url, Path(folder), slots=slots, variables=variables or {})
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
