"""When all is done nothing is left, and no program met an error that nobody expects."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.checker.case import Case, Rule


def nothing_left(case: Case) -> Iterator[tuple[str, str]]:
    """Streams, pending lists, keys without a TTL, processes, descriptors and scratch folders are as before."""
    for event in case.history.of("left"):
        yield "", event.facts["what"]


def no_errors(case: Case) -> Iterator[tuple[str, str]]:
    """No program's log has a line of level error, or a traceback."""
    for event in case.history.of("error"):
        yield "", f"{event.facts['log']}: {event.facts['message']}"


RULES: dict[str, Rule] = {
    "nothing is left": nothing_left,
    "no program meets an error of its own": no_errors,
}
