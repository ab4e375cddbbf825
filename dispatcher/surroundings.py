"""What the place that a dispatcher runs in knows and wants to know: the pods of a cluster, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PhasesOf = Callable[[str], Sequence[tuple[str, int]]]
"""Names of the phases that a worker's pod has gone through and when each ended, ns, in order; empty when the pod is not
known."""


def _nobody(_busy: Mapping[str, int]) -> None:
    """Nobody is told."""


def _unknown(_lane: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Hooks of one place."""

    on_load: Callable[[Mapping[str, int]], None] = _nobody
    """Is told, at each pass of the janitor, how many evaluations each living worker runs."""
    why_idle: Callable[[str], str] = _unknown
    """Says what keeps the workers of a lane from starting; empty when nothing is known."""
    phases_of: PhasesOf | None = None
    """Without it traces say nothing of pods."""
    forgets: bool = False
    """Whether the server is known to keep nothing, as the embedded one without --data."""
