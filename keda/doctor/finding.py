"""What every check returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much it matters."""

    OK = "ok"
    """As it should be."""
    WARN = "warn"
    """It works, and will hurt one day; or it could not be looked at."""
    ERROR = "error"
    """Something does not work, or loses work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        severity: how much it matters.
        about: what was looked at ("server", "lane job.cpu", "ScaledJob job-cpu").
        seen: what was seen.
        why: why it matters; empty when it is as it should be.
        act: what to do, a command where there is one.
    """

    severity: Severity
    about: str
    seen: str
    why: str = ""
    act: str = ""


def ok(about: str, seen: str) -> Finding:
    """Nothing to do."""
    return Finding(Severity.OK, about, seen)


def warn(about: str, seen: str, why: str, act: str = "") -> Finding:
    """It will hurt one day, or could not be looked at."""
    return Finding(Severity.WARN, about, seen, why, act)


def error(about: str, seen: str, why: str, act: str = "") -> Finding:
    """Something does not work, or loses work."""
    return Finding(Severity.ERROR, about, seen, why, act)
