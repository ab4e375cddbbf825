"""What a stored payload must say before anything is done with it: the other side of what a dispatcher stores.

Written by hand, because a worker that must start in a moment has no time to import a validator.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final

from executor import codec
from executor.errors import CorruptEntry


def read_payload(raw: bytes, is_reply: Callable[[str], bool]) -> dict[str, Any]:
    """Unpack and check a payload.

    Args:
        raw: as stored.
        is_reply: whether a key may be a reply stream.

    Raises:
        CorruptEntry: it cannot be run; the message names the field.
    """
    try:
        payload = codec.decode(raw)
    except CorruptEntry as error:
        raise CorruptEntry(f"its payload is corrupt: {error}") from error
    for name, is_good in _REQUIRED.items():
        if name not in payload:
            raise CorruptEntry(f"its payload is corrupt: {name}: missing")
        _check(name, payload[name], is_good)
    for name, is_good in _OPTIONAL.items():
        if name in payload:
            _check(name, payload[name], is_good)
    if "code" in payload and "command" in payload:
        raise CorruptEntry("its payload is corrupt: code: stands beside `command`")
    if payload.get("reply_to") and not is_reply(payload["reply_to"]):
        raise CorruptEntry("its payload is corrupt: reply_to: not a reply stream")
    return payload


def _check(name: str, value: Any, is_good: Callable[[Any], bool]) -> None:
    if not is_good(value):
        raise CorruptEntry(f"its payload is corrupt: {name}: cannot be {repr(value)[:80]}")


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 < value < 2**63


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 < value < 2**31


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_json(value: Any) -> bool:
    try:
        return isinstance(value, dict) and bool(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return False


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_words(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(word) for pair in value.items() for word in pair)


def _are_times(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value))


_REQUIRED: Final[dict[str, Callable[[Any], bool]]] = {
    "timeout": _is_seconds,
    "cpu": _is_seconds,
    "memory": _is_whole,
    "processes": _is_whole,
    "output": _is_whole,
    "max_attempts": _is_whole,
}
_OPTIONAL: Final[dict[str, Callable[[Any], bool]]] = {
    "code": _is_text,
    "command": lambda value: _are_texts(value) and bool(value),
    "args": _are_texts,
    "env": _are_words,
    "stdin": lambda value: isinstance(value, bytes) or _is_text(value),
    "metadata": _is_json,
    "reply_to": _is_text,
    "stream": lambda value: isinstance(value, bool),
    "times": _are_times,
}
