"""Waiting for conditions instead of clocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def wait_until(predicate: Callable[[], bool | Awaitable[bool]], description: str, seconds: float = 20.0) -> None:
    """Return once the predicate holds; fail with the description when it does not in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = predicate()
        if answer if isinstance(answer, bool) else await answer:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {description}")
        await asyncio.sleep(0.01)
