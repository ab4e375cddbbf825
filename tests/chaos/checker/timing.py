"""Nothing waits longer than it has to: recovery after a fault, a lag that is known, and waking from zero."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.checker.case import Case, Rule

Found = Iterator[tuple[str, str]]

_OWN_SECONDS = 1.5
"""Longest time that an ordinary program takes by itself."""
_BACKOFF_FROM = 3
"""Attempt from which on there is a pause first: up to 1, 2, 4 ... s."""


def recovered_in_time(case: Case) -> Found:
    """What a victim held has its result within the lease and some seconds, outages and other blows not counted."""
    for name, seconds, bound in recoveries(case):
        if seconds > bound:
            yield name, f"its result came {seconds:.1f} s after the fault, bound {bound:.1f} s"


def recoveries(case: Case) -> Iterator[tuple[str, float, float]]:
    """(evaluation, seconds from the last blow to its result, bound) for everything that a victim held."""
    blows: dict[str, float] = {}
    for event in case.history.of("fault"):
        for name in event.facts.get("held", []):
            results = case.committed.get(name, [])
            if results and event.facts["struck"] < results[0].at:
                blows[name] = max(blows.get(name, 0.0), event.facts["struck"])
    for name, struck in blows.items():
        result = case.committed[name][0]
        program = case.program_of.get(name)
        if program is None or program.kind in ("poison", "is_cancelled_late"):
            continue
        seconds = result.at - struck - outages(case, struck, result.at)
        pauses = sum(
            float(2 ** (attempt - _BACKOFF_FROM)) for attempt in range(_BACKOFF_FROM, result.facts["attempt"] + 1)
        )
        yield name, seconds, case.bounds.lease + case.bounds.recovery + _OWN_SECONDS + pauses


def outages(case: Case, begin: float, end: float) -> float:
    """Seconds between two times in which another fault was going on."""
    spans = sorted((max(begin, one.facts["began"]), min(end, one.facts["ended"])) for one in case.history.of("fault"))
    total, reached = 0.0, begin
    for first, last in spans:
        total += max(0.0, last - max(first, reached))
        reached = max(reached, last)
    return total


def lag_is_known(case: Case) -> Found:
    """The lag of a lane is not unknown for longer than the janitor needs: a nil lag wakes nobody."""
    for event in case.history.of("nil"):
        began, ended = event.facts["began"], event.facts["ended"]
        seconds = ended - began - outages(case, began, ended)
        if seconds > case.bounds.unknown_lag:
            yield "", f"the lag of {event.facts['lane']} was unknown for {seconds:.1f} s"


def woken_from_zero(case: Case) -> Found:
    """After each fault an evaluation starts from zero workers, in time."""
    probed = {event.facts["number"]: event for event in case.history.of("probe")}
    for event in case.history.of("fault"):
        number = event.facts["number"]
        probe = probed.get(number)
        if probe is None:
            if probed:
                yield "", f"nothing shows that fault {number} ({event.facts['fault']}) left a lane that wakes"
            continue
        began, ended = probe.facts["began"], probe.facts["ended"]
        seconds = ended - began - outages(case, began, ended)
        if seconds > case.bounds.wake:
            yield probe.name, f"{seconds:.1f} s from zero after {event.facts['fault']}"


RULES: dict[str, Rule] = {
    "held work is recovered in time": recovered_in_time,
    "lag is known": lag_is_known,
    "lanes wake from zero after each fault": woken_from_zero,
}
