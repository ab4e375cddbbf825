"""The terminal result of one evaluation, as a value and as the readable fields of a hash or stream entry."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from executor.errors import CorruptEntry
from executor.outcome import Outcome


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What is known once an evaluation has ended. Fields that do not apply are empty, 0 or None."""

    id: str
    outcome: Outcome
    tenant: str = "default"
    exit_code: int | None = None
    """Exit status; minus the signal's number when a signal ended the code; None when it never ran."""
    stdout: str = ""
    """Decoded as UTF-8 with replacement; head and tail when it was cut."""
    stderr: str = ""
    error: str = ""
    """One line: the exception, the limit, or why it was rejected."""
    field: str = ""
    """Name of the request's field that was rejected."""
    duration_ms: float = 0.0
    """Wall clock of the attempt, from its start in the child to the end of its process tree."""
    cpu_ms: float = 0.0
    """User and system time of the process tree."""
    max_rss: int = 0
    """Peak resident memory in bytes: of the largest process, or of the tree where it was sampled."""
    queued_ms: float = 0.0
    """From admission to the claim of this attempt."""
    attempt: int = 0
    worker: str = ""
    truncated: tuple[str, ...] = ()
    """Names of the streams that were cut (`stdout`, `stderr`)."""
    stdout_bytes: int = 0
    """Bytes the code wrote, kept or not."""
    stderr_bytes: int = 0
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The request's own, returned as it came."""
    traceparent: str = ""
    finished_at: int = 0
    """Server time of the commit, ms since the epoch."""

    def to_fields(self) -> list[str | int | float]:
        """Flat field/value list; defaults are left out, except what every reader looks for."""
        flat: list[str | int | float] = []
        for item in _FIELDS:
            value = getattr(self, item)
            if item in _ALWAYS or (value not in (None, "", 0, ()) and value != {}):
                flat += [item, _to_text(value)]
        return flat

    @classmethod
    def from_fields(cls, raw: Mapping[bytes, bytes]) -> EvaluationResult:
        """Read the fields of a result hash, a results entry or a reply.

        Raises:
            CorruptEntry: a field is missing or does not parse.
        """
        try:
            values = {key.decode(): value.decode("utf-8", "replace") for key, value in raw.items()}
            found: dict[str, Any] = {name: _PARSERS.get(name, str)(values[name]) for name in _FIELDS if name in values}
            return cls(**found)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CorruptEntry(f"not a result: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json` and files, every field in order."""
        return {item: list(value) if isinstance(value := getattr(self, item), tuple) else value for item in _FIELDS}


def _to_text(value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        return round(value, 3)
    return value if isinstance(value, int) else str(value)


_FIELDS: Final = tuple(item.name for item in dataclasses.fields(EvaluationResult))
_ALWAYS: Final = frozenset({"id", "outcome", "tenant", "exit_code", "stdout", "stderr"})
_PARSERS: Final[dict[str, Any]] = {
    "outcome": Outcome,
    "exit_code": lambda text: int(text) if text else None,
    "truncated": lambda text: tuple(text.split(",")) if text else (),
    "metadata": json.loads,
    **dict.fromkeys(("duration_ms", "cpu_ms", "queued_ms"), float),
    **dict.fromkeys(("max_rss", "attempt", "stdout_bytes", "stderr_bytes", "finished_at"), int),
}
