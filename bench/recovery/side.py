r"""The half of the bench that runs inside a system's own environment; one JSON object a line in, one out.

    {"do": "start"}                            -> {"version", "knobs"}       helpers run
    {"do": "worker", "number": 1}              -> {"pid"}                    one more worker
    {"do": "send", "jobs": [["a", 0.5], ...]}  -> {}                         name and seconds of each
    {"do": "look"}                             -> {"good": {"a": 1}, "bad"}  results so far by job: how many of each
    {"do": "stop"}                             -> {}                         everything ends

A worker is killed by the bench, not from here. Standard library only, as it is imported in every environment.
"""

import json
import subprocess
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers import driver, processes

RESULT_TTL_SECONDS = 3600
"""How long every system keeps a result: longer than a trial."""
LOOK_EVERY_SECONDS = 1
"""How often every system looks for work whose worker is gone, where it has a knob for that."""


@dataclass(frozen=True)
class Plan:
    """What the bench left in the folder that a side is started in.

    Attributes:
        notes: path of the file that jobs write to.
        slots: jobs that a worker runs at once.
        timeout: seconds after which a silent worker's job is given to another, where that can be chosen.
    """

    notes: str
    slots: int
    timeout: int

    FILE = "plan.json"

    @classmethod
    def read(cls) -> "Plan":
        """Read it from the current folder."""
        return cls(**json.loads(Path(cls.FILE).read_text()))


class Side(ABC):
    """One system: how its programs are started, how it is fed, and what it says about its jobs."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.good: Counter[str] = Counter()
        self.bad: Counter[str] = Counter()

    @abstractmethod
    def version(self) -> str:
        """Name the system and its version."""

    @abstractmethod
    def knobs(self) -> list[tuple[str, str, str]]:
        """Name, default and chosen value of everything that recovery depends on."""

    @abstractmethod
    def worker_command(self, number: int) -> list[str]:
        """Return the program of a worker with `plan.slots` slots."""

    def helper_commands(self) -> list[list[str]]:
        """Return programs that the system needs besides its workers; they are not killed."""
        return []

    @abstractmethod
    def open(self) -> None:
        """Connect, before any program starts."""

    @abstractmethod
    def send(self, name: str, seconds: float) -> None:
        """Send one job."""

    @abstractmethod
    def look(self) -> None:
        """Count in `good` and `bad` what results there are by now."""


class Service:
    """Carries out the steps on a side."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._programs: list[subprocess.Popen[bytes]] = []

    def handle(self, step: dict[str, Any]) -> dict[str, Any]:
        """Do one step; any failure is an answer."""
        try:
            answer: dict[str, Any] = getattr(self, f"do_{step.pop('do')}")(**step)
        except Exception as error:
            return {"error": repr(error)}
        return answer

    def do_start(self) -> dict[str, Any]:
        """Start what is not a worker."""
        self._programs += [processes.spawn(command, None, 2) for command in self._side.helper_commands()]
        return {"version": self._side.version(), "knobs": self._side.knobs()}

    def do_worker(self, number: int) -> dict[str, Any]:
        """Start a worker."""
        worker = processes.spawn(self._side.worker_command(number), None, 2)
        self._programs.append(worker)
        return {"pid": worker.pid}

    def do_send(self, jobs: list[tuple[str, float]]) -> dict[str, Any]:
        """Send jobs, one after the other."""
        for name, seconds in jobs:
            self._side.send(name, seconds)
        return {}

    def do_look(self) -> dict[str, Any]:
        """Look at the results."""
        self._side.look()
        return {"good": self._side.good, "bad": self._side.bad}

    def do_stop(self) -> dict[str, Any]:
        """End every program, killed ones included."""
        processes.end(self._programs)
        self._programs = []
        return {}


def serve(side: Side) -> None:
    """Open a side and carry out steps on it until the input ends."""
    service = Service(side)
    driver.listen(side.open, service.handle, service.do_stop)
