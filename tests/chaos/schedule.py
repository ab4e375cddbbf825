"""When which fault strikes: by how far the work has come, not by a clock, so that a slow machine does the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

EVERY = 220
"""Results between two faults, about."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault to come.

    Attributes:
        number: its place, from 1.
        due: how many results there are when it strikes.
        fault: its name.
    """

    number: int
    due: int
    fault: str


def plan(seed: int, evaluations: int, faults: Sequence[str], every: int = EVERY) -> list[Step]:
    """The faults of a run: each of them in turn in an order that the seed decides, the last while work is left."""
    dice = Random(f"faults {seed}")
    steps: list[Step] = []
    bag: list[str] = []
    due = 0
    while faults:
        due += round(every * dice.uniform(0.6, 1.4))
        if due >= evaluations * 0.95:
            break
        if not bag:
            bag = dice.sample(list(faults), len(faults))
        steps.append(Step(len(steps) + 1, due, bag.pop()))
    return steps


def dice_of(seed: int, step: Step) -> Random:
    """Chance within one fault: which victim, how long."""
    return Random(f"{seed} {step.number} {step.fault}")
