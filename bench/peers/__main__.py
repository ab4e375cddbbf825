"""Echo jobs through Celery, RQ, Taskiq and executor, interleaved on one server, and print how they compare."""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.peers import environment, server
from bench.peers.peer import Peer
from bench.peers.report import Report
from bench.peers.rounds import Plan, Run
from bench.table import dump

EXAMPLE = """\
example:
  python -m bench.peers --peers celery,rq --rounds 3 --n 100 --json > peers.json

Each system has one worker process with one slot and its recommended at-least-once settings. Server, clients and bench
share the first core, workers have the second. The first run installs the systems under .venv-peers (once, some 20 s).
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench."""
    options = _options(argv)
    pythons = {name: environment.interpreter(name, _say) for name in options.peers}
    cores = sorted(os.sched_getaffinity(0))
    worker_core = None
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[0]})  # inherited by the server and the drivers
        worker_core = cores[1]
    for ending in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C is an exception already
        if signal.getsignal(ending) != signal.SIG_IGN:
            signal.signal(ending, lambda number, _: sys.exit(128 + number))
    plan = Plan(options.rounds, options.n, options.drain_seconds)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-peers-")))
        valkey = stack.enter_context(server.serve(folder, options.aof))
        peers = []
        for index, (name, python) in enumerate(pythons.items()):
            (folder / name).mkdir()
            peers.append(stack.enter_context(Peer(name, python, folder / name, valkey.url(index))))
        run = Run(plan, valkey, worker_core, _say)
        run.rounds(peers)
        conditions = {"server": valkey.version(), "aof": options.aof, "cores": min(len(cores), 2)}
        report = Report(plan, conditions, peers)
        print(dump(report.document(run.figures)) if options.json else report.text(run.figures))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    known = environment.known()
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--peers",
        default=known,
        type=lambda text: text.split(","),
        help=f"systems to compare, ratios refer to the first (default: {','.join(known)})",
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--n", type=_positive, default=150, help="round trips per payload in a round (default: %(default)s)"
    )
    parser.add_argument(
        "--drain-seconds", type=float, default=0.7, help="about how long a drain lasts (default: %(default)s)"
    )
    parser.add_argument(
        "--aof", choices=("everysec", "off"), default="everysec", help="the server's append-only file (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, every round included")
    options = parser.parse_args(argv)
    unknown = [name for name in options.peers if name not in known]
    if unknown or len(set(options.peers)) != len(options.peers):
        parser.error(f"--peers takes each of {','.join(known)} at most once")
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
