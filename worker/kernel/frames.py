"""Messages between supervisor, keeper and child: a length, a JSON map, raw buffers.

    u32 length of the JSON · u32 length of all buffers · JSON (its `buffers` lists their lengths) · buffers

Nothing here can carry an object: a reader gets numbers, text and bytes of a capped size.
"""

from __future__ import annotations

import json
import struct
from typing import Any

_HEAD = struct.Struct("<II")
_encode = json.JSONEncoder(separators=(",", ":")).encode
LARGEST = 256 * 1024 * 1024
"""Bytes of one frame; more means that the peer is not ours any more."""

Frame = tuple[dict[str, Any], list[bytes]]


class BadFrame(Exception):
    """The bytes are not a frame."""


def pack(header: dict[str, Any], *buffers: bytes) -> bytes:
    """Make one frame."""
    return join(_encode({**header, "buffers": [len(buffer) for buffer in buffers]}).encode(), *buffers)


def join(text: bytes, *buffers: bytes) -> bytes:
    """Make a frame of JSON that is written already."""
    return b"".join((_HEAD.pack(len(text), sum(map(len, buffers))), text, *buffers))


def pack_plain(buffer: bytes) -> bytes:
    """A request that is one buffer of code and says nothing else: no JSON, which a fresh fork pays for in pages."""
    return _HEAD.pack(0, len(buffer)) + buffer


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Add what has arrived; returns the frames that are complete.

        Raises:
            BadFrame: this stream is no good any more.
        """
        self._data += data
        frames = []
        while len(self._data) >= _HEAD.size:
            text_size, buffers_size = _sizes(self._data)
            end = _HEAD.size + text_size + buffers_size
            if len(self._data) < end:
                break
            frames.append(_parse(bytes(self._data[_HEAD.size : end]), text_size))
            del self._data[:end]
        return frames


def _sizes(head: bytes | bytearray) -> tuple[int, int]:
    text_size, buffers_size = _HEAD.unpack_from(head)
    if text_size + buffers_size > LARGEST:
        raise BadFrame(f"{text_size + buffers_size} bytes")
    return text_size, buffers_size


def _parse(body: bytes, text_size: int) -> Frame:
    try:
        header = json.loads(body[:text_size])
        buffers, start = [], text_size
        for size in header.pop("buffers"):
            buffers.append(body[start : start + size])
            start += size
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFrame(str(error)) from None
    return header, buffers
