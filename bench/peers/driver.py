r"""The half of the bench that runs inside a peer's own environment: one JSON object a line in, one out.

A driver is started in a folder of its own that holds `server.url`. It produces from the core it was started on and runs
its worker on the core it is told. Steps, each answered before the next is read:

    {"do": "start", "core": 1}                    -> {"version", "settings", "worker": [pid], "helpers": [pid]}
    {"do": "roundtrip", "payload": 200, "n": 100} -> {"ms": [...], "polls"}  one at a time, each result awaited
    {"do": "pause"}                               -> {}                the worker's processes, by SIGSTOP
    {"do": "preload", "payload": 200, "n": 500}   -> {"seconds"}       one at a time; the worker is paused
    {"do": "drain"}                               -> {"seconds", "polls"}  resume until the last result is there
    {"do": "check"}                               -> {}                every result was there by then
    {"do": "stop"}                                -> {}                may be started again

`payload` is a size in bytes; `polls` are commands that only asked whether a result was there yet. A step that fails
answers {"error": text}. The end of the input ends worker and driver.
Standard library only, as it is imported in every peer's environment.
"""

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from bench.peers import processes

Handle = TypeVar("Handle")

RESULT_SECONDS = 60.0
"""How long a result is waited for before the bench gives up."""
SETTLE_SECONDS = 0.05
"""A result is visible a little before the worker is done with the job; a pause waits for that."""
RESULT_TTL_SECONDS = 60
"""How long every system keeps a result: long enough to be read, short enough that rounds do not pile up."""


def server_url() -> str:
    """Return the server's address, which holds a password and so is kept off command lines."""
    return Path("server.url").read_text()


class Driver(ABC, Generic[Handle]):
    """One system under test. Subclasses say how it is started, fed and listened to; the steps are here."""

    settings: str
    """What was chosen, for the report: concurrency, acknowledgement, how the client hears of a result."""

    polls = 0
    """Commands sent only to ask whether a result is there yet, where the system has no way to wait for it."""

    @abstractmethod
    def version(self) -> str:
        """Name the system and its version."""

    @abstractmethod
    def worker_command(self) -> list[str]:
        """Return the program that takes work, one slot; its tree is pinned, paused and weighed."""

    def helper_commands(self) -> list[list[str]]:
        """Return programs the system needs besides its worker; they stay on the producer's core and weigh apart."""
        return []

    @abstractmethod
    def enqueue(self, payload: str) -> Handle:
        """Send one job."""

    @abstractmethod
    def wait(self, handle: Handle) -> str:
        """Return a job's result as soon as it is there; raise after RESULT_SECONDS."""

    @abstractmethod
    def is_done(self, handle: Handle) -> bool:
        """Tell without waiting whether a job's result is there."""

    def open(self) -> None:
        """Connect, before any program starts."""

    def roundtrip(self, payload: str) -> str:
        """Send one job and return its result."""
        return self.wait(self.enqueue(payload))

    def preload(self, payload: str, count: int) -> list[Handle]:
        """Send jobs one at a time."""
        return [self.enqueue(payload) for _ in range(count)]

    def tidy(self) -> None:
        """Remove, off the clock, what the system would otherwise keep for ever."""


class Service(Generic[Handle]):
    """Carries out the steps on a driver."""

    def __init__(self, driver: Driver[Handle]) -> None:
        self._driver = driver
        self._worker: list[subprocess.Popen[bytes]] = []
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._payload = ""
        self._handles: list[Handle] = []

    def handle(self, step: dict[str, Any]) -> dict[str, Any]:
        """Do one step; any failure is an answer."""
        try:
            action = getattr(self, f"do_{step.pop('do')}")
            answer: dict[str, Any] = action(**step)
        except Exception as error:
            codes = [process.poll() for process in [*self._worker, *self._helpers]]
            ended = [code for code in codes if code is not None]
            return {"error": f"{error!r}" + (f"; a program ended with {ended}" if ended else "")}
        return answer

    def do_start(self, core: int | None) -> dict[str, Any]:
        """Start the programs and see one job through."""
        self._helpers = [processes.spawn(command, None, 2) for command in self._driver.helper_commands()]
        self._worker = [processes.spawn(self._driver.worker_command(), core, 2)]
        self._echo("ready")
        return {
            "version": self._driver.version(),
            "settings": self._driver.settings,
            "worker": [process.pid for process in self._worker],
            "helpers": [process.pid for process in self._helpers],
        }

    def do_roundtrip(self, payload: int, n: int) -> dict[str, Any]:
        """Time jobs one after the other."""
        text = "x" * payload
        taken = []
        self._driver.polls = 0
        for _ in range(n):
            start = time.perf_counter()
            self._echo(text)
            taken.append((time.perf_counter() - start) * 1000)
        polls = self._driver.polls
        self._driver.tidy()
        return {"ms": taken, "polls": polls}

    def do_pause(self) -> dict[str, Any]:
        """Freeze worker and helpers."""
        time.sleep(SETTLE_SECONDS)  # what was answered is acknowledged by then; a peer gives no sign of it
        processes.send(self._family(), signal.SIGSTOP)
        return {}

    def do_preload(self, payload: int, n: int) -> dict[str, Any]:
        """Queue jobs for a paused worker."""
        self._payload = "x" * payload
        start = time.perf_counter()
        self._handles = self._driver.preload(self._payload, n)
        return {"seconds": time.perf_counter() - start}

    def do_drain(self) -> dict[str, Any]:
        """Time the queued jobs; with one slot they end in order, so the last result ends the clock."""
        family = self._family()
        self._driver.polls = 0
        start = time.perf_counter()
        processes.send(family, signal.SIGCONT)
        result = self._driver.wait(self._handles[-1])
        seconds = time.perf_counter() - start
        self._compare(result, self._payload)
        return {"seconds": seconds, "polls": self._driver.polls}

    def do_check(self) -> dict[str, Any]:
        """Refuse a drain whose last result was not the last one."""
        missing = sum(not self._driver.is_done(handle) for handle in self._handles)
        if missing:
            raise RuntimeError(f"{missing} of {len(self._handles)} results were not there when the last one was")
        self._handles = []
        self._driver.tidy()
        return {}

    def do_stop(self) -> dict[str, Any]:
        """End every program this driver started."""
        processes.end([*self._worker, *self._helpers])
        self._worker, self._helpers = [], []
        return {}

    def _family(self) -> list[int]:
        return processes.tree(process.pid for process in [*self._worker, *self._helpers])

    def _echo(self, payload: str) -> None:
        self._compare(self._driver.roundtrip(payload), payload)

    @staticmethod
    def _compare(result: str, payload: str) -> None:
        if result != payload:
            raise RuntimeError(f"the echo of {len(payload)} bytes came back as {result[:80]!r}")


def serve(driver: Driver[Handle]) -> None:
    """Open the driver and carry out steps on it until the input ends."""
    service = Service(driver)
    listen(driver.open, service.handle, service.do_stop)


def listen(
    begin: Callable[[], object], handle: Callable[[dict[str, Any]], dict[str, Any]], end: Callable[[], object]
) -> None:
    """Answer a line of input with a line of output until the input ends, whatever happens in between."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints belongs in the log, not between the answers
    try:
        begin()
        for line in sys.stdin:
            print(json.dumps(handle(json.loads(line))), file=answers, flush=True)
    finally:
        end()
