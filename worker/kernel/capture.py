"""One output stream of an evaluation: head and tail kept, the rest counted."""

from __future__ import annotations

import os

CHUNK = 65536
"""Bytes of one read: all that a pipe holds (pipe(7))."""


class Capture:
    """Reads a non-blocking pipe.

    Attributes:
        total: bytes that came.
        open: whether a writer may still be there.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.total = 0
        self.open = True
        self._head = bytearray()
        self._tail = bytearray()

    def read(self, keep: int) -> bytes:
        """Take what is there now, at most one chunk.

        Args:
            keep: bytes kept in all; one half from the start, the other from the end.

        Returns:
            The chunk; empty when there is nothing now, or nothing any more (`open` tells).
        """
        try:
            chunk = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return b""
        if not chunk:
            self.open = False
            return b""
        self.total += len(chunk)
        room = keep - keep // 2 - len(self._head)
        self._head += chunk[:room] if room > 0 else b""
        self._tail += chunk[room:] if room > 0 else chunk
        if len(self._tail) > keep:
            del self._tail[: len(self._tail) - keep // 2]
        return chunk

    def kept(self, keep: int) -> tuple[bytes, int]:
        """Head and tail joined, and how many bytes between them are left out."""
        tail = self._tail[max(0, len(self._tail) - keep // 2) :]
        left_out = self.total - len(self._head) - len(tail)
        return bytes(self._head + tail) if not left_out else bytes(self._head) + _mark(left_out) + bytes(tail), left_out


def _mark(left_out: int) -> bytes:
    return b"\n[... %d bytes left out ...]\n" % left_out
