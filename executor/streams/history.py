"""Attempts of an evaluation that left no result, as scripts note them (lua/lib/dead.lua): one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt that left no result. What its worker or who found it could not tell is empty or 0."""

    owner: str
    """Worker that had it."""
    attempt: int = 0
    """Its number, from 1; 0 when a version before this one noted it."""
    at: int = 0
    """When it was found to have ended, server time, ms since the epoch."""
    how: str = ""
    """How it ended: its lease ran out, it was handed back, its keeper ended by a signal."""
    output: str = ""
    """The last 2 KiB of what it wrote, as far as its worker had received it or it was streamed."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, every field in order."""
        return asdict(self)


def read_history(text: str) -> tuple[PastAttempt, ...]:
    """Read what was noted, first attempt first.

    Versions before this one wrote owners with commas between them, and may have gone on with that behind a line of
    ours; what is neither is taken for owners.
    """
    found: list[PastAttempt] = []
    for line in text.split("\n"):
        facts, owners = _split(line)
        if facts is not None:
            found.append(_past(facts))
        found += [PastAttempt(owner) for owner in owners.split(",") if owner]
    return tuple(found)


def _split(line: str) -> tuple[dict[str, Any] | None, str]:
    try:
        facts, end = _DECODER.raw_decode(line)
    except (ValueError, RecursionError):
        return None, line
    return (facts, line[end:]) if isinstance(facts, dict) else (None, line)


def _past(facts: dict[str, Any]) -> PastAttempt:
    owner, how, output = (value if isinstance(value := facts.get(name), str) else "" for name in _TEXTS)
    attempt, at = (value if type(value := facts.get(name)) is int else 0 for name in ("attempt", "at"))
    return PastAttempt(owner, attempt, at, how, output)


_TEXTS: Final = ("owner", "how", "output")
_DECODER: Final = json.JSONDecoder()
