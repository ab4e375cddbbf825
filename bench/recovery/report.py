"""What the trials found: for each scenario a table with a column for each system, and what each was set to."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench.recovery.trial import SCENARIOS, Outcome, Size
from bench.table import Spread, render

TIMES = {
    "begun_again": "SIGKILL -> the last killed job begins again, s",
    "last_result": "SIGKILL -> last result, s",
}
COUNTS = {
    "cut_short": "runs that the SIGKILL ended",
    "lost": "jobs lost: no result within the bound",
    "failed": "jobs given up by the system",
    "begun_twice": "jobs begun twice",
    "run_twice": "jobs run to their end twice",
    "results_twice": "jobs with two results",
}

Found = Mapping[str, Mapping[str, Sequence[Outcome]]]
"""Outcomes of each round, by scenario and system."""


class Report:
    """Figures of a run.

    Attributes:
        versions: of each system, the one that ratios refer to first.
        knobs: what recovery depends on in each: name, default, chosen value.
    """

    def __init__(self, size: Size, conditions: Mapping[str, object]) -> None:
        self._size = size
        self._conditions = conditions
        self.versions: dict[str, str] = {}
        self.knobs: dict[str, list[tuple[str, str, str]]] = {}

    def document(self, found: Found) -> dict[str, object]:
        """Everything, each round's outcome included."""
        return {
            "bench": "recovery",
            "size": asdict(self._size),
            "conditions": self._conditions,
            "versions": self.versions,
            "knobs": self.knobs,
            "scenarios": {
                scenario: {name: [asdict(one) for one in outcomes] for name, outcomes in systems.items()}
                for scenario, systems in found.items()
            },
        }

    def text(self, found: Found) -> str:
        """Tables for a person."""
        parts = [self._scenario(scenario, systems) for scenario, systems in found.items()]
        rows = [[name, *knob] for name, knobs in self.knobs.items() for knob in knobs]
        parts.append(render(["what recovery depends on", "knob", "default", "here"], rows))
        parts.append("\n".join(self.versions.values()))
        size = self._size
        parts.append(
            f"{size.jobs} jobs a trial, 2 workers of {size.slots} slots, timeout {size.timeout} s, bound "
            f"{size.bound:g} s; " + ", ".join(f"{name} {value}" for name, value in self._conditions.items())
        )
        return "\n\n".join(parts)

    def _scenario(self, scenario: str, systems: Mapping[str, Sequence[Outcome]]) -> str:
        rounds = len(next(iter(systems.values())))
        title = f"{scenario}: {SCENARIOS[scenario].title}"
        rows = [
            [label, *(self._time(outcomes, field) for outcomes in systems.values())] for field, label in TIMES.items()
        ]
        rows.append(["... divided by " + next(iter(systems)), *(_ratio(systems, name) for name in systems)])
        rows += [
            [label, *(str(sum(getattr(one, field) for one in outcomes)) for outcomes in systems.values())]
            for field, label in COUNTS.items()
        ]
        return render([title, *systems], rows) + f"\n  times: median (lowest..highest), counts: sum, of {rounds} rounds"

    def _time(self, outcomes: Sequence[Outcome], field: str) -> str:
        times = [getattr(one, field) for one in outcomes]
        known = [time for time in times if time is not None]
        if not known:
            return "never"
        never = len(times) - len(known)
        return str(Spread.of(known)) + (f", never in {never} of {len(times)}" if never else "")


def _ratio(systems: Mapping[str, Sequence[Outcome]], name: str) -> str:
    """Divide within each round that both came to an end in."""
    base = next(iter(systems.values()))
    pairs = [(own.last_result, other.last_result) for own, other in zip(systems[name], base, strict=True)]
    ratios = [own / other for own, other in pairs if own is not None and other is not None]
    return str(Spread.of(ratios)) if ratios else "-"
