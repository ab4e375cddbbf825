"""Stored payloads: msgpack maps with a version, size caps and nothing executable.

The one module that imports msgpack. Readers ignore keys they do not know, so that a newer dispatcher beside an
older worker drops nothing.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from executor.errors import CorruptEntry

VERSION: Final = 1
"""Version of the request and payload maps. A reader takes every version up to its own."""


def encode(value: dict[str, Any]) -> bytes:
    """Pack a map of JSON-like values and bytes; adds `v` when it is missing."""
    packed: bytes = msgpack.packb({"v": VERSION, **value}, use_bin_type=True)
    return packed


def decode(raw: bytes) -> dict[str, Any]:
    """Unpack a map.

    Raises:
        CorruptEntry: the bytes are not one msgpack map with string keys, or `v` is missing or newer.
    """
    try:
        value = msgpack.unpackb(raw, raw=False, strict_map_key=True, use_list=True)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise CorruptEntry(f"not a msgpack map: {str(error) or type(error).__name__}") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CorruptEntry("not a msgpack map with string keys")
    version = value.get("v")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise CorruptEntry(f"v: this version reads 1 to {VERSION}, not {repr(version)[:40]}")
    return value


def glimpse(raw: bytes) -> dict[str, Any]:
    """What can be made of bytes that `decode` may refuse, for whom to answer; empty when nothing can."""
    try:
        value = msgpack.unpackb(raw, raw=False, strict_map_key=False, unicode_errors="surrogateescape")
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
