"""What a run was and whether it kept the promises, for people and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.table import render
from tests.chaos.checker import RULES
from tests.chaos.checker.case import Case, Violation
from tests.chaos.checker.timing import recoveries
from tests.chaos.driver import Run

_SHOWN = 5
"""Violations of one promise that are shown whole."""


def figures(made: Run, case: Case) -> dict[str, Any]:
    """What a run counted."""
    history = case.history
    outcomes = Counter(events[-1].facts["outcome"] for events in case.committed.values())
    again = sum(events[-1].facts["attempt"] > 1 for events in case.committed.values())
    recovered = sorted(seconds for _, seconds, _ in recoveries(case))
    woken = sorted(one.facts["ended"] - one.facts["began"] for one in history.of("probe"))
    return {
        "seed": made.shape.seed,
        "evaluations": len(made.programs),
        "seconds": round(made.seconds, 1),
        "results": len(case.committed),
        "outcomes": dict(outcomes.most_common()),
        "tried again by callers": len(history.of("tried")) - len(made.programs),
        "more than one attempt": again,
        "stale commits refused": len(history.of("refused")),
        "duplicate replies": sum(bool(one.facts["duplicate"]) for one in history.of("reply")),
        "faults": dict(sorted(Counter(one.facts["fault"] for one in history.of("fault")).items())),
        "held work recovered": len(recovered),
        "longest recovery, s": round(recovered[-1], 1) if recovered else None,
        "median from zero, s": round(woken[len(woken) // 2], 2) if woken else None,
        "longest from zero, s": round(woken[-1], 2) if woken else None,
        "longest unknown lag, s": round(
            max((one.facts["ended"] - one.facts["began"] for one in history.of("nil")), default=0), 2
        ),
    }


def undone(case: Case, violations: Sequence[Violation]) -> dict[str, int]:
    """What was lost in windows: requests that vanished and were sent again, and promises that did not hold."""
    found = Counter(one.promise for one in violations if one.undone)
    vanished = case.history.of("vanished")
    return (
        {"accepted and vanished": len(vanished), "oldest of them, ms": _oldest(case), **found} if case.windows else {}
    )


def _oldest(case: Case) -> int:
    """How long before its fault the oldest request that vanished was accepted, ms: the loss window that was seen."""
    accepted = case.history.by_name("accepted")
    begins = [one.facts["began"] for one in case.history.of("fault") if one.facts.get("undoes")]
    ages = [0.0]
    for event in case.history.of("vanished"):
        last = max(one.at for one in accepted[event.name] if one.at < event.at)
        ages += [min(begin - last for begin in begins if begin > last)] if last < begins[-1] else []
    return round(max(ages) * 1000)


def as_json(made: Run, case: Case, violations: Sequence[Violation]) -> str:
    """Everything, for programs."""
    broken = [
        {"promise": one.promise, "about": one.about, "text": one.text, "excerpt": one.excerpt}
        for one in violations
        if not one.undone
    ]
    return json.dumps({**figures(made, case), "violations": broken, "lost in windows": undone(case, violations)})


def table(made: Run, case: Case, violations: Sequence[Violation]) -> str:
    """Figures, promises, and the first violations with their histories."""
    found = figures(made, case)
    faults = found.pop("faults")
    rows = [[name, _text(value)] for name, value in found.items()]
    parts = [
        render(["run", ""], rows),
        render(["fault", "times"], [[name, str(count)] for name, count in faults.items()]),
    ]
    broken = Counter(one.promise for one in violations if not one.undone)
    verdicts = [[name, f"BROKEN {broken[name]} times" if broken[name] else "kept"] for name in RULES]
    parts.append(render(["promise", ""], verdicts))
    if case.windows:
        lost = [[name, str(count)] for name, count in undone(case, violations).items()]
        parts.append(render(["within a loss window, not promised", "times"], lost))
    shown: Counter[str] = Counter()
    for one in (one for one in violations if not one.undone):
        shown[one.promise] += 1
        if shown[one.promise] <= _SHOWN:
            parts.append(
                "\n".join([f"{one.promise}: {one.about} {one.text}", *("    " + line for line in one.excerpt)])
            )
    return "\n\n".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return "-" if value is None else str(value)
