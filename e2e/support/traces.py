"""Traces read back from Jaeger's API, and what every one of them has to be."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from cli.trace import as_document, ask_jaeger, belonging
from e2e.support.installation import Installation, wait_for
from executor import EvaluationResult

MOST_UNEXPLAINED = 5.0
"""Percent of an evaluation's time that one gap between its phases may take."""
PHASES = (
    *("submit", "dispatch", "queue", "pod.scale", "pod.create", "pod.schedule", "pod.start", "worker.start"),
    *("attempt", "claim", "sandbox.start", "run", "commit"),
)

Timeline = dict[str, Any]
"""What `executor trace --json` prints."""


def timelines(
    installation: Installation, results: Sequence[EvaluationResult], needed: Iterable[str] = ()
) -> list[Timeline]:
    """One timeline per result, asserted to be whole.

    Args:
        installation: with Jaeger in it.
        results: of evaluations whose caller sent no context, so that each has a trace of its own.
        needed: phases that arrive later than the rest, from another program.
    """
    assert len({_trace_id(result) for result in results}) == len(results), "two evaluations share a trace"
    with installation.jaeger_url() as url:
        return [_timeline(url, result, {"evaluate", *needed}) for result in results]


def _timeline(url: str, result: EvaluationResult, needed: set[str]) -> Timeline:
    def whole() -> Timeline | None:
        rows = belonging(ask_jaeger(url, _trace_id(result)), result.tenant, result.id)
        rows.sort(key=lambda row: row.start_us)
        found = {row.name for row in rows}
        return as_document(result.id, rows) if needed <= found else None

    timeline: Timeline = wait_for(whole, f"{result.id} has {', '.join(sorted(needed))} in its trace", 20)
    names = [span["phase"] for span in timeline["spans"]]
    assert names.count("evaluate") == 1, names
    assert [gap for gap in timeline["gaps"] if gap["percent"] > MOST_UNEXPLAINED] == [], timeline
    return timeline


def _trace_id(result: EvaluationResult) -> str:
    return result.traceparent[3:35]


def print_phases(timelines: Sequence[Timeline]) -> None:
    """The median of each phase over all timelines, in the order that they happen; `queue` holds the pod's phases."""
    for phase in PHASES:
        times = [
            sum(span["duration_ms"] for span in timeline["spans"] if span["phase"] == phase) for timeline in timelines
        ]
        if any(times):
            print(f"  {phase:14} {statistics.median(times):8.1f} ms")
