"""The bench's side of a driver: starts it in its own environment and folder, sends steps, reads answers."""

import contextlib
import json
import os
import select
import subprocess
from pathlib import Path
from typing import IO, Any, Self

from bench.peers import environment, processes

ANSWER_SECONDS = 180.0
"""How long a step may take; each job in it has its own, shorter limit."""


class Conversation:
    """A driver in an environment and folder of its own; a context manager that ends it and all it started."""

    def __init__(self, name: str, module: str, python: Path, folder: Path, url: str) -> None:
        self.name = name
        address = folder / "server.url"
        address.touch(mode=0o600)
        address.write_text(url)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, "-m", module],
                cwd=folder,
                env={
                    "PATH": os.pathsep.join([str(python.parent), os.defpath]),
                    "PYTHONPATH": str(environment.ROOT),
                    "HOME": str(folder),
                    "TMPDIR": str(folder),
                    "LANG": "C.UTF-8",
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the bench, which then ends its peers in order
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        processes.end([self._process], ask=self._close)
        self._output.close()

    def _close(self, _: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._input.close()  # the driver ends its programs and then itself

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def step(self, **step: object) -> dict[str, Any]:
        """Have one step done and return the answer; raise with the end of the driver's log if it failed."""
        try:
            self._input.write(json.dumps(step).encode() + b"\n")
            self._input.flush()
            readable, _, _ = select.select([self._output], [], [], ANSWER_SECONDS)
            line = self._output.readline() if readable else b""
        except BrokenPipeError:
            line = b""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the driver gave no answer"}
        if "error" in answer:
            log = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.name}: {step['do']}: {answer['error']}\n{log}")
        return answer


class Peer(Conversation):
    """One system of the comparison."""

    def __init__(self, name: str, python: Path, folder: Path, url: str) -> None:
        super().__init__(name, f"bench.peers.{name}_peer", python, folder, url)
        self.version = ""
        self.settings = ""
        self._worker: list[int] = []
        self._helpers: list[int] = []

    def start(self, core: int | None) -> None:
        """Start the worker on a core and see one job through."""
        answer = self.step(do="start", core=core)
        self.version, self.settings = answer["version"], answer["settings"]
        self._worker, self._helpers = answer["worker"], answer["helpers"]

    def roundtrip(self, payload: int, n: int) -> tuple[list[float], int]:
        """Return the milliseconds of jobs sent one after the other, and the commands that only asked for results."""
        answer = self.step(do="roundtrip", payload=payload, n=n)
        return list(answer["ms"]), int(answer["polls"])

    def pause(self) -> None:
        """Freeze the system for the time its queue is filled."""
        self.step(do="pause")

    def stop(self) -> None:
        """End the system's programs; it can be started again."""
        self.step(do="stop")

    def preload(self, payload: int, n: int) -> float:
        """Queue jobs for the paused worker; return the seconds it took."""
        return float(self.step(do="preload", payload=payload, n=n)["seconds"])

    def drain(self) -> tuple[float, int]:
        """Resume; return the seconds until the last result and the commands spent only on asking for it."""
        answer = self.step(do="drain")
        return float(answer["seconds"]), int(answer["polls"])

    def check(self) -> None:
        """Raise if a result came after the one that ended the drain."""
        self.step(do="check")

    def memory(self) -> tuple[int, int]:
        """Return the bytes held by the worker and by its helpers."""
        return processes.pss_bytes(self._worker), processes.pss_bytes(self._helpers)
