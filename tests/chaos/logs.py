"""What the programs' own logs say that a checker needs: commits that were refused, and errors that nobody expects."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.history import Event, named

REFUSED = "a commit came too late and was refused"
EXPECTED = ("the zygote ended and is started again",)
"""What faults make programs say in a line of level error."""
MOVED = "-moved"
"""In the names of programs whose clock libfaketime can move."""
_NO_SLEEP = "Invalid argument"
"""What Python's sleep to a point of time gets from libfaketime 0.9.10, whose arithmetic takes one clock for another."""
_TRACEBACK = "Traceback (most recent call last)"


def read_logs(folder: Path) -> Iterator[Event]:
    """Events of every program's log: `refused`, and `error` for a line of that level that is not
    EXPECTED, or a traceback."""
    for path in sorted(folder.glob("*.log")):
        lines = path.read_text(errors="replace").splitlines()
        for index, line in enumerate(lines):
            if _TRACEBACK in line and not line.startswith("{"):
                text = _until_json(lines[index:])
                if not (MOVED in path.name and _NO_SLEEP in text):
                    yield Event(time.monotonic(), "error", facts={"log": path.name, "message": text})
            elif (facts := _facts(line)) is not None:
                yield from _event(path.name, facts)


def _event(log: str, facts: dict[str, Any]) -> Iterator[Event]:
    at = _monotonic(facts["time"])
    if facts["message"] == REFUSED:
        name = named(facts["tenant"], facts["evaluation_id"])
        yield Event(at, "refused", name, {"attempt": facts["attempt"], "log": log})
    elif facts["level"] in ("error", "critical") and facts["message"] not in EXPECTED:
        text = f"{facts['message']} {facts.get('error', '')} {facts.get('exception', '')}"
        yield Event(at, "error", facts={"log": log, "message": text[:2000]})


def _facts(line: str) -> dict[str, Any] | None:
    """A line of a program's log; None for anything else that it printed."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"time", "level", "message"} <= found.keys() else None


def _until_json(lines: list[str]) -> str:
    end = next((index for index, line in enumerate(lines) if line.startswith("{")), len(lines))
    return "\n".join(lines[:end])[:2000]


def _monotonic(stamp: str) -> float:
    """About when that was on the history's clock; a program whose clock was moved is off by as much."""
    wall = time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) + float(stamp[19:] or 0)
    return wall - time.time_ns() / 1e9 + time.monotonic()
