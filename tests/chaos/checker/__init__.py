"""Judges a history: pure functions of what was seen, one for each promise; tests show that each can fail."""

from __future__ import annotations

from tests.chaos.checker import baseline, delivery, order, outcomes, timing
from tests.chaos.checker.case import Case, Rule, Violation

__all__ = ["MAY_BE_UNDONE", "RULES", "Case", "Rule", "Violation", "check"]

RULES: dict[str, Rule] = {
    **delivery.RULES,
    **outcomes.RULES,
    **order.RULES,
    **timing.RULES,
    **baseline.RULES,
}
"""Every promise by its name, in the order of the report."""


MAY_BE_UNDONE = frozenset({*delivery.RULES, *outcomes.RULES, *order.RULES}) - {
    "every accepted evaluation has a result",
    "every wait returns",
    "nothing vanishes but in a loss window",
    "results are the program's own",
}
"""Promises that may break for what was written in a loss window; such breaks are told apart, and counted.

In the end even these evaluations have a result, their callers have seen one, and it is the program's own.
"""


def check(case: Case) -> list[Violation]:
    """Everything that a run broke."""
    return [
        Violation(
            promise,
            about,
            text,
            tuple(case.history.excerpt(about)) if about else (),
            undone=promise in MAY_BE_UNDONE and about in case.in_doubt,
        )
        for promise, rule in RULES.items()
        for about, text in rule(case)
    ]
