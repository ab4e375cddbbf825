"""One trial: a system, its workers, a batch of jobs, a SIGKILL in the middle, and what became of each job."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.peers import processes
from bench.peers.peer import Conversation
from bench.recovery.notes import Notes
from bench.recovery.pace import Pace
from bench.recovery.side import Plan

LOOK_SECONDS = 0.1
"""Between two looks at the results: how precise times are."""
READY_SECONDS = 120.0
"""How long all workers may take until all their slots have been seen busy at once."""
WARM_UP_SECONDS = 1.0
"""Length of the jobs that tell whether all slots are there."""
SHORTEST, LONGEST = 0.2, 1.0
"""Seconds that jobs take."""
LONG = 1.5
"""Length of a long job, in timeouts."""
TRAFFIC_EVERY = 0.5
"""Seconds between two jobs of the traffic that goes on after the fault."""
LINGER_SECONDS = 5.0
"""How long after one more timeout a second run or result is still waited for."""


@dataclass(frozen=True)
class Scenario:
    """What is done to a system.

    Attributes:
        title: for the report.
        workers: that die, of two.
        again_after: seconds until a new worker starts; None: none does.
        traffic: whether further jobs keep coming after the fault.
        long: how many jobs take longer than the timeout.
    """

    title: str
    workers: int = 1
    again_after: float | None = None
    traffic: bool = False
    long: int = 0


SCENARIOS = {
    "one": Scenario("one of two workers dies, nothing more is sent"),
    "traffic": Scenario("one of two workers dies, a job keeps coming every 0.5 s", traffic=True),
    "all": Scenario("both workers die, a new one starts 5 s later", workers=2, again_after=5.0),
    "long": Scenario("one of two workers dies, four jobs take 1.5 timeouts; a job keeps coming", traffic=True, long=4),
}


@dataclass(frozen=True)
class Size:
    """How large a trial is.

    Attributes:
        jobs: in the batch.
        slots: jobs that a worker runs at once.
        timeout: seconds after which a silent worker's job is given to another, where that can be chosen.
        bound: seconds after the fault at which a job without a result is lost.
    """

    jobs: int
    slots: int
    timeout: int
    bound: float


@dataclass(frozen=True)
class Outcome:
    """What became of a batch. Times are seconds from the SIGKILL; None: never within the bound.

    Attributes:
        begun_again: until the last job that had to begin again did.
        last_result: until every job had a result.
        cut_short: runs that the SIGKILL ended.
        lost: jobs without a result.
        failed: jobs that the system gave up.
        begun_twice: jobs that began more than once; those that were cut short have to.
        run_twice: jobs that ran to their end more than once.
        results_twice: jobs with more than one result.
    """

    begun_again: float | None
    last_result: float | None
    cut_short: int
    lost: int
    failed: int
    begun_twice: int
    run_twice: int
    results_twice: int


class Trial:
    """Carries a scenario out on one system."""

    def __init__(
        self, system: Conversation, folder: Path, scenario: Scenario, size: Size, seed: int, pace: Pace
    ) -> None:
        self._system = system
        self._notes = folder / "notes"
        self._scenario = scenario
        self._size = size
        self._pace = pace
        self._random = random.Random(seed)  # the same jobs for all systems
        self._workers: list[int] = []
        self._more = 0
        self._due: list[tuple[float, Callable[[], None]]] = []

    @staticmethod
    def prepare(folder: Path, size: Size) -> None:
        """Leave in a system's folder what its side reads at its start."""
        plan = Plan(str(folder / "notes"), size.slots, size.timeout)
        (folder / Plan.FILE).write_text(json.dumps(asdict(plan)))

    def run(self) -> Outcome:
        """Start the system, break it, and watch."""
        for _ in range(2):
            self._start_worker()
        self._wait_until_ready()
        batch = self._batch()
        self._system.step(do="send", jobs=batch)
        names = {name for name, _ in batch}
        self._wait(lambda: self._read().count_ended(names) >= len(names) // 3, "a third of the jobs has run")
        killed_at = time.monotonic()
        for worker in self._workers[: self._scenario.workers]:
            processes.kill(worker)
        self._plan_what_follows(killed_at)
        seen, good, bad = self._watch(names, killed_at)
        notes = self._read()
        begun_again = notes.last_begun_again(names)
        begun_twice, run_twice = notes.twice(names)
        return Outcome(
            begun_again=None if begun_again is None else begun_again - killed_at,
            last_result=max(seen.values()) - killed_at if len(seen) == len(names) else None,
            cut_short=notes.cut_short(names),
            lost=len(names) - len(seen),
            failed=sum(name not in good for name in bad),
            begun_twice=begun_twice,
            run_twice=run_twice,
            results_twice=sum(count > 1 for count in good.values()),
        )

    def _start_worker(self) -> None:
        self._workers.append(self._system.step(do="worker", number=len(self._workers))["pid"])

    def _wait_until_ready(self) -> None:
        """See all slots of all workers busy at once; a system gives no other sign that they are there."""
        slots = 2 * self._size.slots
        limit, attempt = time.monotonic() + READY_SECONDS, 0
        while True:
            names = [f"warm-{attempt}-{number}" for number in range(slots)]
            self._system.step(do="send", jobs=[(name, WARM_UP_SECONDS) for name in names])
            self._wait_until_ended(names)
            if self._read().most_at_once(names) == slots:
                break
            if time.monotonic() > limit:
                raise RuntimeError(f"{self._system.name}: {slots} slots were never busy at once")
            attempt += 1
        self._wait(lambda: set(names) <= self._results()[0].keys(), "the warm-up has its results")

    def _wait_until_ended(self, names: list[str]) -> None:
        self._wait(lambda: self._read().count_ended(names) == len(names), "the warm-up has run")

    def _batch(self) -> list[tuple[str, float]]:
        lengths = [self._random.uniform(SHORTEST, LONGEST) for _ in range(self._size.jobs)]
        for number in range(self._scenario.long):
            lengths[number * 2] = LONG * self._size.timeout  # early: each worker has some of them when one is killed
        return [(f"job-{number}", seconds) for number, seconds in enumerate(lengths)]

    def _plan_what_follows(self, killed_at: float) -> None:
        if self._scenario.again_after is not None:
            self._due.append((killed_at + self._scenario.again_after, self._start_worker))
        if self._scenario.traffic:
            self._due.append((killed_at, self._send_traffic))

    def _send_traffic(self) -> None:
        self._more += 1
        self._system.step(do="send", jobs=[(f"more-{self._more}", SHORTEST)])
        self._due.append((time.monotonic() + TRAFFIC_EVERY, self._send_traffic))

    def _watch(self, names: set[str], killed_at: float) -> tuple[dict[str, float], dict[str, int], dict[str, int]]:
        """Note when each job's first result was seen; then stay to see what comes twice.

        Returns:
            Instant of the first result, and the numbers of good and bad ones, by job.
        """
        seen: dict[str, float] = {}
        limit = killed_at + self._size.bound
        while (now := time.monotonic()) < limit:
            self._do_what_is_due(now)
            good, bad = self._results()
            now = time.monotonic()
            new = (names & (good.keys() | bad.keys())) - seen.keys()
            seen |= dict.fromkeys(new, now)
            if new and len(seen) == len(names):
                limit = now + self._size.timeout + LINGER_SECONDS
            self._pace.pause(LOOK_SECONDS)
        good, bad = self._results()
        return seen, _among(names, good), _among(names, bad)

    def _do_what_is_due(self, now: float) -> None:
        due = [one for one in self._due if one[0] <= now]
        self._due = [one for one in self._due if one[0] > now]
        for _, action in due:
            action()

    def _results(self) -> tuple[dict[str, int], dict[str, int]]:
        answer = self._system.step(do="look")
        return _positive(answer["good"]), _positive(answer["bad"])

    def _read(self) -> Notes:
        return Notes.read(self._notes)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + READY_SECONDS
        while not condition():
            if time.monotonic() > limit:
                raise RuntimeError(f"{self._system.name}: within {READY_SECONDS:g} s it was not so that {what}")
            self._pace.pause(0.02)


def _positive(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _among(names: set[str], counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if name in names}
