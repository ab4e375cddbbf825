"""What happened, as a log: one JSON object a line, appended by every process that saw something.

Times are seconds of CLOCK_MONOTONIC, which all processes of a machine share and no clock jump moves.

| kind | said by | facts |
| --- | --- | --- |
| tried | producer, before it sends | program, not_before (s since the epoch) |
| accepted | producer, its XADD was answered | program, again (on purpose), replicated (WAIT said so) |
| vanished | producer: what was accepted is not known any more | program |
| started | the evaluated code itself | pid, wall (s since the epoch) |
| committed | observer of the results stream | outcome, attempt, worker, stdout, finished_at |
| seen | producer, its wait returned | program, of (the id whose result it is), outcome, attempt, stdout |
| cancel | producer | answer, more |
| refused | a worker's log: its commit was stale | attempt |
| entered | observer of the lanes | lane, entry, attempt |
| gap | observer of the lanes: entries may have gone unseen | lane |
| nil | observer: the lag of a lane was unknown | lane, began, ended |
| fault | driver | number, fault, began, ended, struck, held (names), pids, undoes, detail |
| probe | driver: one evaluation from zero after a fault | number, began, ended |
| record, reply, letter, left | driver, at the end | what the server and the machine still hold |
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was seen.

    Attributes:
        at: seconds, CLOCK_MONOTONIC.
        name: `tenant/id` of the evaluation it is about; empty when it is about none.
    """

    at: float
    kind: str
    name: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """One line of a log."""
        return json.dumps([round(self.at, 6), self.kind, self.name, self.facts]).encode() + b"\n"


def now() -> float:
    """The time of events, s."""
    return time.monotonic()


def named(tenant: str, evaluation_id: str) -> str:
    """Name of an evaluation."""
    return f"{tenant}/{evaluation_id}"


class Log:
    """A file that events are appended to, a whole line at a time."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def say(self, kind: str, name: str = "", **facts: Any) -> None:
        """Append an event of this moment."""
        os.write(self._fd, Event(now(), kind, name, facts).to_line())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class History:
    """All events of a run in the order of their times."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(events, key=lambda event: event.at)
        self._kinds: dict[str, list[Event]] = {}
        for event in self.events:
            self._kinds.setdefault(event.kind, []).append(event)

    def of(self, kind: str) -> list[Event]:
        """Events of one kind."""
        return self._kinds.get(kind, [])

    def by_name(self, kind: str) -> dict[str, list[Event]]:
        """Events of one kind for each evaluation."""
        found: dict[str, list[Event]] = {}
        for event in self.of(kind):
            found.setdefault(event.name, []).append(event)
        return found

    def excerpt(self, name: str) -> list[str]:
        """Everything about one evaluation, and the faults meanwhile, readable."""
        about = [event for event in self.events if event.name == name]
        if not about:
            return []
        first, last = about[0].at, about[-1].at
        faults = [one for one in self.of("fault") if one.facts["began"] <= last and one.facts["ended"] >= first]
        start = self.events[0].at
        lines = [(event.at, event.kind, _short(event.facts)) for event in about]
        for one in faults:
            began, ended = one.facts["began"] - start, one.facts["ended"] - start
            text = f"{one.facts['fault']} {began:.3f} to {ended:.3f} {one.facts['detail']}"
            lines.append((one.facts["began"], "fault", text))
        return [f"{at - start:9.3f}  {kind:<9} {text}" for at, kind, text in sorted(lines)]


def read(folder: Path) -> Iterator[Event]:
    """Events of every log in a folder; a last line that a killed process left half is passed over."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            try:
                at, kind, name, facts = json.loads(line)
            except ValueError:
                continue
            yield Event(at, kind, name, facts)


def read_starts(path: Path) -> Iterator[Event]:
    """Events that evaluated code wrote (programs.STARTED)."""
    for line in path.read_text().splitlines() if path.exists() else []:
        words = line.split()
        if len(words) == 4:
            name, pid, at, wall = words
            yield Event(int(at) / 1e9, "started", name, {"pid": int(pid), "wall": int(wall) / 1e9})


def _short(facts: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={str(value).strip()[:80]}" for name, value in facts.items())
