"""Run chaos: `python -m tests.chaos --seed 7 --evaluations 20000`.

Exit code 0: every promise was kept; 1: one was broken, and the folder with the history is kept; 2: it could not run.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.cell import Shape, library_of_faketime
from tests.chaos.checker import check
from tests.chaos.checker.case import Case
from tests.chaos.driver import run
from tests.chaos.faults import DEFAULT, FAULTS
from tests.chaos.report import as_json, table
from tests.chaos.schedule import EVERY


def main() -> int:
    """Run, judge, print."""
    options = _options()
    faults = [name for name in options.faults.split(",") if name]
    if unknown := sorted(set(faults) - set(FAULTS)):
        print(f"chaos: no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    faketime = library_of_faketime()
    if "clock" in faults and not faketime:
        print("chaos: fault clock needs libfaketime: install the package faketime", file=sys.stderr)
        return 2
    shape = Shape(
        options.seed,
        options.evaluations,
        fsync=options.fsync,
        guarded="failover" in faults,
        autoscaler=not options.no_autoscaler,
        previous=options.previous,
    )
    folder = Path(tempfile.mkdtemp(prefix="executor-chaos-"))

    def say(text: str) -> None:
        if not options.json:
            print(text, flush=True)

    say(f"seed {shape.seed}, {shape.evaluations} evaluations, in {folder}")
    made = asyncio.run(
        run(shape, faults, folder, every=options.every, faketime=faketime if "clock" in faults else "", say=say)
    )
    case = Case(made.history, made.programs)
    violations = check(case)
    print(as_json(made, case, violations) if options.json else table(made, case, violations))
    broken = [one for one in violations if not one.undone]
    if broken or options.keep:
        print(f"chaos: the history is in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="decides programs and faults")
    parser.add_argument("--evaluations", type=int, default=20_000)
    parser.add_argument("--faults", default=",".join(DEFAULT), help=f"names, of {', '.join(FAULTS)}")
    parser.add_argument("--every", type=int, default=EVERY, help="results between two faults, about")
    parser.add_argument("--fsync", choices=("always", "everysec"), default="always", help="of the append-only file")
    parser.add_argument("--previous", default="HEAD~1", help="revision of the older worker")
    parser.add_argument("--no-autoscaler", action="store_true", help="no job lanes, nothing from zero")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run that broke nothing, too")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
