"""executor: run code evaluations as events on Redis Streams.

What a caller needs is here; a program that needs less (a worker's start is measured) imports the modules themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from executor.client import Client, Handle
    from executor.errors import BacklogFull, ExecutorError, InvalidField, RequestError, TransientError
    from executor.outcome import Outcome
    from executor.replies import Chunk
    from executor.result import EvaluationResult
    from executor.streams.dead import DeadLetter
    from executor.streams.history import PastAttempt

__all__ = [
    "BacklogFull",
    "Chunk",
    "Client",
    "DeadLetter",
    "EvaluationResult",
    "ExecutorError",
    "Handle",
    "InvalidField",
    "Outcome",
    "PastAttempt",
    "RequestError",
    "TransientError",
]

_HOMES = {
    "BacklogFull": "errors",
    "Chunk": "replies",
    "Client": "client",
    "DeadLetter": "streams.dead",
    "EvaluationResult": "result",
    "ExecutorError": "errors",
    "Handle": "client",
    "InvalidField": "errors",
    "Outcome": "outcome",
    "PastAttempt": "streams.history",
    "RequestError": "errors",
    "TransientError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'executor' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"executor.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Public names, whether they are imported yet or not."""
    return sorted({*globals(), *__all__})
