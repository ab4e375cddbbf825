"""Looks at a server before work is done on it, at the start and after each outage: it may be another one by then."""

from __future__ import annotations

import logging
from typing import Final

from executor.errors import Misconfigured, NotAuthorized, PermanentError, ServerUnavailable
from executor.fitness import faults, forgets
from executor.streams.channel import Channel

_SCRIPT: Final = "#!lua flags=no-writes,allow-oom\nreturn redis.call('TIME')[1]"
"""Has what our own scripts begin with, and can run wherever they can."""


class Probe:
    """What one program asks of its server, on a channel of the program's."""

    def __init__(self, channel: Channel, prefix: str, log: logging.Logger | None = None) -> None:
        """Make a probe.

        Args:
            channel: to ask on.
            prefix: of the cell's keys.
            log: is told, once, of what a cell can live with but its owner should know.
        """
        self._channel = channel
        self._prefix = prefix
        self._log = log

    async def look(self) -> None:
        """Pass if the server can carry a cell.

        Raises:
            Misconfigured: it cannot; the message says why and what to do.
            ServerUnavailable: it is a replica now.
        """
        info = await self._info()
        if info.get("role", "master") != "master":
            await self._channel.close()  # the next call finds out who is the primary now
            raise ServerUnavailable("the server is a read-only replica: point REDIS_URL at the primary", retry_after=2)
        for fault in faults(info, self._prefix):
            raise Misconfigured(str(fault))
        try:
            await self._channel.call("EVAL", _SCRIPT, 0)
        except PermanentError as error:
            raise Misconfigured(f"{error}: scripts with flags are needed, as Redis 7.0 and Valkey run them") from error
        if forgets(info):
            self._tell("the server keeps no append-only file: what is accepted is gone when it restarts")

    async def look_at_group(self, stream: str) -> None:
        """Pass if the groups of a stream say how much they have not read.

        Raises:
            Misconfigured: they do not.
        """
        for group in await self._channel.call("XINFO", "GROUPS", stream):
            if b"lag" not in group[::2]:
                raise Misconfigured("the server's groups tell no lag, which KEDA scales on: use Redis 7.0 or Valkey")

    async def _info(self) -> dict[str, str]:
        try:
            text = await self._channel.call("INFO")
        except NotAuthorized:
            self._tell("INFO is refused, so version and maxmemory-policy of the server are not looked at")
            return {}
        lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines())
        return {name: value for name, sep, value in lines if sep}

    def _tell(self, message: str) -> None:
        if self._log is not None:
            self._log.warning(message)
            self._log = None
