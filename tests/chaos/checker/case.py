"""What a rule is given, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from tests.chaos.history import Event, History, named
from tests.chaos.programs import Program


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds within which things have to happen.

    Attributes:
        lease: a claim that is not renewed so long is given to another.
        recovery: on top of the lease, until held work has its result.
        unknown_lag: longest time that the lag of a lane may be unknown.
        wake: from a fault's end to the result of an evaluation that starts from zero.
        unsaved: age of the oldest acknowledged write that a crash may take: a disk flush is as late, or a replica.
    """

    lease: float = 2.0
    recovery: float = 5.0
    unknown_lag: float = 3.0
    wake: float = 15.0
    unsaved: float = 2.0


class Case:
    """A history with what was to be expected.

    Attributes:
        history: of a run.
        programs: by number.
        bounds: on time.
    """

    def __init__(self, history: History, programs: list[Program], bounds: Bounds | None = None) -> None:
        self.history = history
        self.programs = {program.number: program for program in programs}
        self.bounds = bounds or Bounds()

    @cached_property
    def program_of(self) -> dict[str, Program]:
        """The program of each evaluation that was tried or accepted, by its name."""
        found = {named(one.tenant, one.id): one for one in self.programs.values() if one.id}
        for event in self.history.of("accepted"):
            found.setdefault(event.name, self.programs[event.facts["program"]])
        return found

    @cached_property
    def accepted(self) -> set[str]:
        """Names of evaluations whose request was acknowledged."""
        return {event.name for event in self.history.of("accepted")}

    @cached_property
    def committed(self) -> dict[str, list[Event]]:
        """Results by name."""
        return self.history.by_name("committed")

    @cached_property
    def records(self) -> dict[str, Event]:
        """What the server said at the end, by name."""
        return {event.name: event for event in self.history.of("record")}

    @cached_property
    def first_tried(self) -> dict[str, float]:
        """When each was first sent, by name."""
        return {name: events[0].at for name, events in self.history.by_name("tried").items()}

    @cached_property
    def windows(self) -> list[tuple[float, float]]:
        """Times whose writes a fault may have undone: no replica or disk had them yet, or they went nowhere."""
        undoing = [event.facts for event in self.history.of("fault") if event.facts.get("undoes")]
        return [(facts["began"] - self.bounds.unsaved, facts["ended"]) for facts in undoing]

    @cached_property
    def in_doubt(self) -> set[str]:
        """Evaluations of which anything was said within a loss window."""
        spoken = (event for event in self.history.events if event.name and event.kind != "record")
        return {event.name for event in spoken if any(begin <= event.at <= end for begin, end in self.windows)}

    def meant(self, name: str) -> str:
        """The evaluation that a request stands for: itself, or the first one of its key."""
        record = self.records.get(name)
        first = record.facts.get("duplicate_of") if record is not None else None
        return named(name.partition("/")[0], first) if first else name


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise.

    Attributes:
        promise: name of the rule.
        about: name of the evaluation; empty when it is about none.
        excerpt: of the history, readable.
        undone: whether what was promised was undone in a loss window, of which less is promised.
    """

    promise: str
    about: str
    text: str
    excerpt: tuple[str, ...] = ()
    undone: bool = False


Rule = Callable[[Case], Iterator[tuple[str, str]]]
"""Yields (name of the evaluation or empty, what is wrong)."""
