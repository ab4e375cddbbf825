"""Of what waits before a lane, the oldest request of a tenant and priority goes first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.checker.case import Case, Rule

_FAR = 500
"""How many places behind one it is looked for what it overtook: more than wait at once."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One evaluation's first way into a lane; all three are times of the server."""

    name: str
    asked: tuple[int, int]
    """Id of its ingress entry."""
    admitted: int
    """ms"""
    entered: int
    """ms"""


def order_is_kept(case: Case) -> Iterator[tuple[str, str]]:
    """Who was admitted before another entered the lane, and had asked earlier, has entered earlier."""
    for passages in _passages(case).values():
        for place, one in enumerate(passages):
            for later in passages[place + 1 : place + _FAR]:
                if later.asked < one.asked and later.admitted < one.entered:
                    yield later.name, f"asked before {one.name}, was admitted, and entered the lane after it"


def _passages(case: Case) -> dict[Any, list[Passage]]:
    """First entries by lane, tenant and priority: an attempt that is handed back stands behind.

    What has a `not_before` is left out, what may have entered for the first time while nobody looked, and what a
    crash may have undone: it has asked, and entered, more than once.
    """
    found: dict[Any, list[Passage]] = {}
    passed = set(case.in_doubt)
    for event in case.history.events:
        if event.kind == "gap":
            passed |= {name for name in case.records if case.first_tried.get(name, 0.0) <= event.at}
        elif event.kind == "entered" and event.name not in passed:
            record, program = case.records.get(event.name), case.program_of.get(event.name)
            if record is None or program is None or not program.ordered:
                continue
            passed.add(event.name)
            place = (event.facts["lane"], program.tenant, record.facts["priority"])
            asked, entered = _moment(record.facts["entry"]), _moment(event.facts["entry"])
            found.setdefault(place, []).append(
                Passage(event.name, asked, int(record.facts["queued_at"] or 0), entered[0])
            )
    return found


def _moment(entry: str | None) -> tuple[int, int]:
    ms, _, number = (entry or "0-0").partition("-")
    return int(ms), int(number)


RULES: dict[str, Rule] = {"order within a tenant and priority": order_is_kept}
