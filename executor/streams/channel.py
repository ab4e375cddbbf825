"""One connection to the server: commands pipelined, replies matched in order, nothing retried.

A lost connection fails every outstanding call and the caller decides. The next call opens one to where the address
points then: after a failover, to the new primary.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from hiredis import pack_command

from executor.errors import ExecutorError, ServerUnavailable
from executor.settings import ServerSettings
from executor.streams.wire import FAILURES, REFUSED, Dialer, Link, is_demoted, translate

Command = tuple[str | bytes | int | float, ...]

_pack = cast(Callable[[Command], bytes], pack_command)


class Channel:
    """A pipelined connection that opens itself again on the next call after it was lost.

    Attributes:
        round_trips: writes so far that waited for a reply; what a latency of the network multiplies.
    """

    def __init__(self, url: str, settings: ServerSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._dialer = Dialer(url, settings, name)
        self._connection: Link | None = None
        self._outstanding: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._opening = asyncio.Lock()
        self._reader: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self.round_trips = 0

    async def call(self, *command: str | bytes | int | float, patience: float = 0.0) -> Any:
        """Send one command and wait for its reply.

        Args:
            command: its words.
            patience: seconds the server may block before it answers, on top of the reply timeout.

        Raises:
            ExecutorError: the branch says whether it can be tried again.
        """
        connection = self._connection or await self._open()
        future = self._expect(patience)
        await self._write(connection, _pack(command))
        return await future

    async def pipeline(self, commands: Sequence[Command], patience: float = 0.0) -> list[asyncio.Future[Any]]:
        """Send several commands in one write.

        Returns:
            One future per command, in order; each has a reply or an ExecutorError. They must all be awaited.
        """
        connection = self._connection or await self._open()
        futures = [self._expect(patience) for _ in commands]
        await self._write(connection, b"".join(map(_pack, commands)))
        return futures

    async def close(self) -> None:
        """Drop the connection; outstanding calls fail."""
        await self._lost(ServerUnavailable("the connection was closed"))

    def _expect(self, patience: float) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._outstanding.append((future, time.monotonic() + self._settings.reply_timeout + patience))
        return future

    async def _write(self, connection: Link, packed: bytes) -> None:
        self.round_trips += 1
        try:
            await connection.send_packed_command(packed, check_health=False)
        except (*FAILURES, ValueError, AttributeError) as error:
            await self._lost(translate(error))

    async def _open(self) -> Link:
        async with self._opening:
            if self._connection is not None:
                return self._connection
            connection = await self._dialer.dial()
            self._connection = connection
            self._reader = asyncio.create_task(self._read(connection), name=f"{self._name}-reader")
            self._watchdog = asyncio.get_running_loop().call_later(1.0, self._watch)
            return connection

    async def _read(self, connection: Link) -> None:
        while True:
            try:
                reply: Any = await connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
            except REFUSED as error:
                reply = error
            except (*FAILURES, EOFError) as error:
                await self._lost(translate(error), reading=True)
                return
            if is_demoted(reply):  # the next call finds out who is the primary now
                await self._lost(translate(reply), reading=True)
                return
            future, _ = self._outstanding.popleft()
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(translate(reply))
                future.exception()  # whoever saw an earlier one of its pipeline fail does not look at this one
            else:
                future.set_result(reply)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        if self._outstanding and self._outstanding[0][1] < time.monotonic():
            error = ServerUnavailable(f"no reply within {self._settings.reply_timeout:g} s")
            self._closing = loop.create_task(self._lost(error), name=f"{self._name}-timeout")
            return
        self._watchdog = loop.call_later(1.0, self._watch)

    async def _lost(self, error: ExecutorError, *, reading: bool = False) -> None:
        connection, self._connection = self._connection, None
        if self._watchdog is not None:
            self._watchdog.cancel()
        while self._outstanding:
            future, _ = self._outstanding.popleft()
            if not future.done():
                future.set_exception(error)
                future.exception()  # a caller that was cancelled no longer looks at it
        if self._reader is not None and not reading:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader
        if connection is not None:
            await connection.disconnect(nowait=True)


def pairs(flat: Sequence[Any] | None) -> dict[bytes, Any]:
    """A reply of names and values in turn, as a map; {} of nothing."""
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


async def listen(url: str, settings: ServerSettings, channel: str) -> AsyncIterator[bytes]:
    """Messages published on a channel, from when the subscription stands until the connection is lost.

    Raises:
        ExecutorError: the connection was refused or lost; messages published meanwhile are gone.
    """
    connection = await Dialer(url, settings, "control").dial()
    try:
        await connection.send_command("SUBSCRIBE", channel)
        while True:
            kind, _, data = await connection.read_response(disable_decoding=True, timeout=math.inf)
            if kind == b"message":
                yield data
    except FAILURES as error:
        raise translate(error) from error
    finally:
        await connection.disconnect(nowait=True)
