"""Keeps the work and the faults in step: producers do not run ahead of the fault that is due next."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

_LOOK = 0.05


class Gate:
    """A file with the number of the first program that has to wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limit = 0

    def open_to(self, limit: int) -> None:
        """Let programs through up to a number (the driver)."""
        if limit != self._limit:
            self._limit = limit
            fresh = self._path.with_suffix(".new")
            fresh.write_text(str(limit))
            os.replace(fresh, self._path)

    async def pass_(self, number: int) -> None:
        """Wait until a program may be sent (a producer)."""
        while number >= self._limit:
            self._limit = int(self._path.read_text())
            if number >= self._limit:
                await asyncio.sleep(_LOOK)  # a file has no event that all processes hear of
