"""Living through a server that is away: a line in the log when it starts and when it is over, backoff with jitter."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from executor.errors import ExecutorError, GroupMissing, ScriptMissing
from executor.telemetry import SERVER_OUTAGES

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0

T = TypeVar("T")


class Outage:
    """What a program knows about the server it needs.

    Attributes:
        reason: why the server cannot be used; empty while it can.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._log = logging.getLogger(program)
        self._since = 0.0
        self._tries = 0
        self.reason = ""

    async def wait(self, error: ExecutorError) -> None:
        """Note a failure and sleep before the next try."""
        if isinstance(error, GroupMissing | ScriptMissing) and not self._tries:
            self._tries += 1
            return
        if not self.reason:
            self._since = time.monotonic()
            SERVER_OUTAGES.add(1, self._program)
            self._log.warning("the server cannot be used; trying until it can", extra={"reason": str(error)})
        elif str(error) != self.reason:
            self._log.warning("the server still cannot be used", extra={"reason": str(error)})
        self.reason = str(error)
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(self._tries, 10))
        self._tries += 1
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 jitter, not a secret

    def over(self) -> None:
        """Note a success."""
        self._tries = 0
        if self.reason:
            self.reason = ""
            down = round(time.monotonic() - self._since, 1)
            self._log.info("the server can be used again", extra={"down_seconds": down})

    async def outlast(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call that is safe to repeat until the server answers it."""
        while True:
            try:
                answer = await call()
            except ExecutorError as error:
                await self.wait(error)
            else:
                self.over()
                return answer
