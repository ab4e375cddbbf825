"""Within one tenant and priority, evaluations enter a lane in the order of their admission."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.chaos.checker.case import Case, Rule


def order_is_kept(case: Case) -> Iterator[tuple[str, str]]:
    """First entries only: an attempt that is handed back stands behind, what has a `not_before` begins elsewhere.

    After a gap in what was seen of a lane, nothing that was admitted before it is compared with what comes after it.
    """
    latest: dict[tuple[str, str, Any], tuple[int, str]] = {}
    known: set[str] = set()
    for event in case.history.events:
        if event.kind == "gap":
            latest.clear()
            known |= set(case.records)  # their first entry may have gone unseen
            known -= {name for name in case.records if case.first_tried.get(name, 0.0) > event.at}
        elif event.kind == "entered":
            name, record = event.name, case.records.get(event.name)
            program = case.program_of.get(name)
            if name in known or record is None or program is None or not program.ordered:
                continue
            known.add(name)
            admitted = int(record.facts["queued_at"] or 0)
            place = (event.facts["lane"], program.tenant, record.facts["priority"])
            before, whose = latest.get(place, (0, ""))
            if admitted < before:
                yield name, f"admitted {before - admitted} ms before {whose}, which entered the lane before it"
            latest[place] = max((admitted, name), (before, whose))


RULES: dict[str, Rule] = {"order within a tenant and priority": order_is_kept}
