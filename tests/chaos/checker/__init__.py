"""Judges a history: pure functions of what was seen, one for each promise; tests show that each can fail."""

from __future__ import annotations

from tests.chaos.checker import baseline, delivery, order, outcomes, timing
from tests.chaos.checker.case import Case, Rule, Violation

__all__ = ["RULES", "Case", "Rule", "Violation", "check"]

RULES: dict[str, Rule] = {
    **delivery.RULES,
    **outcomes.RULES,
    **order.RULES,
    **timing.RULES,
    **baseline.RULES,
}
"""Every promise by its name, in the order of the report."""


def check(case: Case) -> list[Violation]:
    """Everything that a run broke."""
    return [
        Violation(promise, about, text, tuple(case.history.excerpt(about)) if about else ())
        for promise, rule in RULES.items()
        for about, text in rule(case)
    ]
