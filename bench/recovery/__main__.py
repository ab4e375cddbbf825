"""SIGKILL workers of executor, Celery, RQ and Taskiq in the middle of their work; watch until each job has a result.

All systems of a trial run side by side, each on a database of its own of one server: what is measured are timeouts, of
many seconds, during which the processors idle.
"""

import argparse
import contextlib
import os
import platform
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

import redis

from bench.peers import environment, server
from bench.peers.peer import Conversation
from bench.recovery.pace import Pace, StoodStill, Stopped
from bench.recovery.report import Report
from bench.recovery.trial import SCENARIOS, Outcome, Size, Trial
from bench.table import dump

EXAMPLE = """\
example:
  python -m bench.recovery --scenarios one,traffic --rounds 1 --json > recovery.json

A job notes in a file that it begins and that it ends, so what ran is counted without asking the system. Each system has
its recommended settings for jobs that outlive their worker, and the same recovery timeout where it has a knob for it.
What was killed is not started again by hand. The first run installs the systems under .venv-peers (once, some 20 s).
"""

TRIES = 5
"""How often a scenario is begun before a machine that stands still is given up."""


class Bench:
    """One server, and every system on it for each trial."""

    def __init__(self, valkey: server.Server, folder: Path, size: Size, report: Report) -> None:
        self._valkey = valkey
        self._folder = folder
        self._size = size
        self._report = report
        self._lock = threading.Lock()

    def trials(self, scenario: str, number: int, pythons: dict[str, Path]) -> dict[str, Outcome]:
        """Carry a scenario out on all systems at the same time, again if the machine stood still meanwhile."""
        for _ in range(TRIES):
            try:
                return self._all(scenario, number, pythons)
            except StoodStill as error:
                _say(f"  the machine stood still for {error}: all of it again")
        raise RuntimeError(f"the machine stood still in each of {TRIES} tries")

    def _all(self, scenario: str, number: int, pythons: dict[str, Path]) -> dict[str, Outcome]:
        stop = threading.Event()
        with ThreadPoolExecutor(len(pythons)) as pool:
            futures = {
                name: pool.submit(self._trial, name, python, database, scenario, number, Pace(stop))
                for database, (name, python) in enumerate(pythons.items())
            }
            try:
                wait(futures.values(), return_when=FIRST_EXCEPTION)
            finally:
                stop.set()  # whoever is not through by now, because of an error or of Ctrl-C, is not to go on
            failed = [error for future in futures.values() if (error := future.exception()) is not None]
            for error in sorted(failed, key=lambda error: isinstance(error, Stopped)):
                raise error
            return {name: future.result() for name, future in futures.items()}

    def _trial(self, name: str, python: Path, database: int, scenario: str, number: int, pace: Pace) -> Outcome:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-{scenario}-{number}-", dir=self._folder))
        url = self._valkey.url(database)
        with redis.Redis.from_url(url) as connection:
            connection.flushdb()  # what an earlier trial lost would come back in this one
        Trial.prepare(folder, self._size)
        with Conversation(name, f"bench.recovery.{name}_side", python, folder, url) as system:
            facts = system.step(do="start")
            self._report.versions[name] = facts["version"]
            self._report.knobs[name] = [tuple(knob) for knob in facts["knobs"]]
            outcome = Trial(system, folder, SCENARIOS[scenario], self._size, number, pace).run()
        with self._lock:
            _say(f"  {name}: {_brief(outcome)}")
        return outcome


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench."""
    options = _options(argv)
    pythons = {name: environment.interpreter(name, _say) for name in options.systems}
    for ending in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C is an exception already
        if signal.getsignal(ending) != signal.SIG_IGN:
            signal.signal(ending, lambda number, _: sys.exit(128 + number))
    size = Size(options.jobs, options.slots, options.timeout, options.bound)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-recovery-")))
        valkey = stack.enter_context(server.serve(folder, "everysec"))
        cores = len(os.sched_getaffinity(0))
        conditions = {"server": valkey.version(), "cores": cores, "python": platform.python_version()}
        report = Report(size, conditions)
        for name in pythons:  # in this order
            report.versions[name], report.knobs[name] = "", []
        bench = Bench(valkey, folder, size, report)
        found: dict[str, dict[str, list[Outcome]]] = {
            scenario: {name: [] for name in pythons} for scenario in options.scenarios
        }
        for number in range(options.rounds):
            for scenario in options.scenarios:
                _say(f"round {number + 1} of {options.rounds}, {scenario}: {SCENARIOS[scenario].title}")
                for name, outcome in bench.trials(scenario, number, pythons).items():
                    found[scenario][name].append(outcome)
        print(dump(report.document(found)) if options.json else report.text(found))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.recovery",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_choice(parser, "--systems", environment.known(), "systems to compare, ratios refer to the first")
    _add_choice(parser, "--scenarios", list(SCENARIOS), "what is done to them")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=96, help="jobs of a trial (default: %(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="of each of the two workers (default: %(default)s)")
    parser.add_argument("--timeout", type=int, default=15, help="recovery timeout, s (default: %(default)s)")
    parser.add_argument(
        "--bound", type=float, default=180.0, help="a job without a result after this is lost, s (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, every round included")
    return parser.parse_args(argv)


def _add_choice(parser: argparse.ArgumentParser, option: str, known: list[str], meaning: str) -> None:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if set(chosen) - set(known) or len(set(chosen)) != len(chosen):
            raise argparse.ArgumentTypeError(f"takes each of {','.join(known)} at most once")
        return chosen

    parser.add_argument(option, type=parse, default=known, help=f"{meaning} (default: {','.join(known)})")


def _brief(outcome: Outcome) -> str:
    end = "never" if outcome.last_result is None else f"{outcome.last_result:.1f} s"
    counts = f"{outcome.lost} lost, {outcome.run_twice} run twice, {outcome.results_twice} with two results"
    return f"last result {end}, {counts}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
