"""Results are of the right attempt and of the right program, and answers to cancels are true."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.checker.case import Case, Rule
from tests.chaos.history import Event
from tests.chaos.producer import summary
from tests.chaos.programs import Program

Found = Iterator[tuple[str, str]]

_SLACK = 0.05
"""Seconds between two clocks of one machine, and between a time and its rounding."""
_HARM_LASTS = 30.0
"""Seconds after a fault in which another attempt may still be its consequence: lease, backoff, a queue."""


def none_is_stale(case: Case) -> Found:
    """The committed attempt is the last one that was claimed, and is no worker's whose commit was refused.

    What ends while it waits is nobody's, and counts the attempts before.
    """
    refused = {(event.name, event.facts["attempt"]) for event in case.history.of("refused")}
    for name, events in case.committed.items():
        attempt = events[-1].facts["attempt"]
        record = case.records.get(name)
        if (name, attempt) in refused and events[-1].facts["worker"]:
            yield name, f"attempt {attempt} was refused and is committed"
        if record is not None and record.facts["attempt"] not in (None, str(attempt)):
            yield name, f"attempt {attempt} is committed, the record counts {record.facts['attempt']}"
        if record is not None and record.facts["state"] != "done":
            yield name, f"it has a result, and its record is {record.facts['state']}"


def as_the_program_says(case: Case) -> Found:
    """The outcome is one that the program can have, and a success printed what it prints."""
    shot = {(pid) for event in case.history.of("fault") for pid in event.facts.get("pids", [])}
    starts = _starts(case)
    for name, events in case.committed.items():
        program = case.program_of.get(name)
        if program is None:
            continue
        facts = events[-1].facts
        was_shot = any(event.facts["pid"] in shot for event in starts.get(program.number, []))
        if facts["outcome"] not in program.allowed and not (facts["outcome"] == "killed" and was_shot):
            yield name, f"{program.kind} ended as {facts['outcome']} ({facts['error']})"
        printed = facts.get("stdout")
        if facts["outcome"] == "succeeded" and printed is not None and program.prints is not None:
            expected = summary(program.prints)
            if printed != expected:
                yield name, f"it printed {printed!r} instead of {expected!r}"


def runs_are_counted(case: Case) -> Found:
    """A program starts at most once for each attempt, and a success has started."""
    starts = _starts(case)
    attempts: dict[int, int] = {}
    for name, events in case.committed.items():
        program = case.program_of.get(name)
        if program is not None:
            attempts[program.number] = attempts.get(program.number, 0) + events[-1].facts["attempt"]
            if events[-1].facts["outcome"] == "succeeded" and not starts.get(program.number):
                yield name, "it succeeded and never started"
    for number, events in starts.items():
        program = case.programs[number]
        if len(events) > attempts.get(number, 0) and program.id and not program.once:
            yield f"{program.tenant}/{program.id}", f"started {len(events)} times in {attempts.get(number, 0)} attempts"


def attempts_have_a_cause(case: Case) -> Found:
    """Code that ends by itself is not run again: a further attempt follows a fault."""
    faults = case.history.of("fault")
    for name, events in case.committed.items():
        program, result = case.program_of.get(name), events[-1]
        if program is None or program.kind == "poison" or result.facts["attempt"] < 2:
            continue
        begin = case.first_tried.get(name, result.at)
        if not any(one.facts["began"] <= result.at and one.facts["ended"] + _HARM_LASTS >= begin for one in faults):
            yield name, f"attempt {result.facts['attempt']} without a fault before it"


def cancels_are_true(case: Case) -> Found:
    """What a cancel was answered is what became of it."""
    for event in case.history.of("cancel"):
        results = case.committed.get(event.name, [])
        outcome = results[-1].facts["outcome"] if results else "nothing"
        answer, more = event.facts["answer"], event.facts["more"]
        if answer == "cancelled" and outcome != "cancelled":
            yield event.name, f"said to be cancelled, ended as {outcome}"
        elif answer == "done" and outcome != more:
            yield event.name, f"said to be done as {more}, ended as {outcome}"
        elif answer == "unknown":
            yield event.name, "accepted and unknown to a cancel"


def not_before_its_time(case: Case) -> Found:
    """Nothing starts before its `not_before`; where it was sent more than once, the earliest counts."""
    earliest: dict[int, float] = {}
    for event in case.history.of("tried"):
        if (instant := event.facts.get("not_before")) is not None:
            number = event.facts["program"]
            earliest[number] = min(instant, earliest.get(number, instant))
    for number, events in _starts(case).items():
        begin = min(event.facts["wall"] for event in events)
        if number in earliest and begin < earliest[number] - _SLACK:
            program = case.programs[number]
            yield f"{program.tenant}/{program.id}", f"started {earliest[number] - begin:.3f} s too soon"


def _starts(case: Case) -> dict[int, list[Event]]:
    """What programs said of themselves, by their numbers."""
    by_name: dict[str, Program] = {
        f"{one.tenant}/{one.id or f'number-{one.number}'}": one for one in case.programs.values()
    }
    found: dict[int, list[Event]] = {}
    for event in case.history.of("started"):
        if event.name in by_name:
            found.setdefault(by_name[event.name].number, []).append(event)
    return found


RULES: dict[str, Rule] = {
    "no result of a refused generation": none_is_stale,
    "results are the program's own": as_the_program_says,
    "one start for an attempt": runs_are_counted,
    "a further attempt has a cause": attempts_have_a_cause,
    "answers to cancels are true": cancels_are_true,
    "nothing starts before its time": not_before_its_time,
}
