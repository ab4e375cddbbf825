"""One connection to the server: commands pipelined, replies matched in order, nothing retried.

The only module that imports redis. redis-py brings the wire: addresses, TLS, authentication, parsing. Its client
classes are not used, because they repeat commands after an error by themselves (ten times by default in redis 8),
which adds entries twice; here a lost connection fails every outstanding call and the caller decides.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from hiredis import pack_command

from executor.errors import (
    ExecutorError,
    GroupMissing,
    Misconfigured,
    NotAuthorized,
    PermanentError,
    ScriptMissing,
    ServerUnavailable,
    WrongKeyType,
)
from executor.settings import ServerSettings

# redis imports OpenTelemetry's metrics and their SDK when they are installed, for metrics that are off: a quarter of
# a worker's start-up. It takes an ImportError for "not installed".
_UNUSED: Final = "opentelemetry"
_HIDE = _UNUSED not in sys.modules
if _HIDE:
    sys.modules[_UNUSED] = None  # type: ignore[assignment]
try:
    import redis.exceptions as redis_errors
    from redis.asyncio.connection import Connection, parse_url
finally:
    if _HIDE:
        del sys.modules[_UNUSED]

Command = tuple[str | bytes | int | float, ...]

_pack = cast(Callable[[Command], bytes], pack_command)

_AUTH_CODES: Final = (
    "NOAUTH",
    "NOPERM",
    "WRONGPASS",
    "invalid username-password",
    "invalid password",
    "Authentication",
)
_AWAY_CODES: Final = (
    "OOM",
    "MISCONF",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "NOREPLICAS",
    "UNBLOCKED",
)


def translate(error: BaseException) -> ExecutorError:
    """Our error for one of redis-py's (or of the operating system's); the original is its cause."""
    text = str(error) or type(error).__name__
    ours = _translated(error, text)
    ours.__cause__ = error
    return ours


def _translated(error: BaseException, text: str) -> ExecutorError:
    if isinstance(error, redis_errors.NoScriptError) or "NOSCRIPT" in text:
        return ScriptMissing("the server forgot a script; it is sent again", retry_after=0)
    if "NOGROUP" in text:
        return GroupMissing(f"a consumer group is gone and is made again ({text})", retry_after=0)
    auth = (
        redis_errors.AuthenticationError,
        redis_errors.AuthenticationWrongNumberOfArgsError,
        redis_errors.AuthorizationError,
        redis_errors.NoPermissionError,
    )
    if isinstance(error, auth) or any(code in text for code in _AUTH_CODES):
        return NotAuthorized(
            f"the server refuses these credentials ({text}): set REDIS_URL with a user that may do this"
        )
    if "WRONGTYPE" in text:
        return WrongKeyType(f"a key holds another type than ours ({text}): remove it or use another EXECUTOR_PREFIX")
    if isinstance(error, redis_errors.OutOfMemoryError) or "OOM command" in text:
        return ServerUnavailable(f"the server is full ({text}): raise maxmemory or let results expire", retry_after=2)
    if isinstance(error, redis_errors.ReadOnlyError):
        return ServerUnavailable(
            f"the server is a read-only replica ({text}): point REDIS_URL at the primary", retry_after=2
        )
    away = (
        redis_errors.ConnectionError,
        redis_errors.TimeoutError,
        redis_errors.ClusterDownError,
        redis_errors.TryAgainError,
    )
    if isinstance(error, (*away, OSError, asyncio.IncompleteReadError)) or text.split(" ", 1)[0] in _AWAY_CODES:
        return ServerUnavailable(f"the server cannot answer ({text}): check that it runs and that REDIS_URL names it")
    return PermanentError(f"the server refuses a command ({text})")


class Channel:
    """A pipelined connection that opens itself again on the next call after it was lost.

    Attributes:
        round_trips: writes so far that waited for a reply; what a latency of the network multiplies.
    """

    def __init__(self, url: str, settings: ServerSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._make = _connection_factory(url, settings, name)
        self._connection: Connection | None = None
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

    async def _write(self, connection: Connection, packed: bytes) -> None:
        self.round_trips += 1
        try:
            await connection.send_packed_command(packed, check_health=False)
        except (redis_errors.RedisError, OSError, ValueError, AttributeError) as error:
            await self._lost(translate(error))

    async def _open(self) -> Connection:
        async with self._opening:
            if self._connection is not None:
                return self._connection
            connection: Connection = self._make()
            try:
                async with asyncio.timeout(self._settings.connect_timeout):
                    await connection.connect()  # type: ignore[no-untyped-call]
            except TimeoutError:
                raise ServerUnavailable(f"no connection within {self._settings.connect_timeout:g} s") from None
            except (redis_errors.RedisError, OSError) as error:
                raise translate(error) from error
            self._connection = connection
            self._reader = asyncio.create_task(self._read(connection), name=f"{self._name}-reader")
            self._watchdog = asyncio.get_running_loop().call_later(1.0, self._watch)
            return connection

    async def _read(self, connection: Connection) -> None:
        while True:
            try:
                reply: Any = await connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
            except redis_errors.ResponseError as error:
                reply = error
            except (redis_errors.RedisError, OSError, EOFError) as error:
                await self._lost(translate(error), reading=True)
                return
            future, _ = self._outstanding.popleft()
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(translate(reply))
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
    connection = _connection_factory(url, settings, "control")()
    try:
        await connection.connect()
        await connection.send_command("SUBSCRIBE", channel)
        while True:
            kind, _, data = await connection.read_response(disable_decoding=True, timeout=math.inf)
            if kind == b"message":
                yield data
    except (redis_errors.RedisError, OSError) as error:
        raise translate(error) from error
    finally:
        await connection.disconnect(nowait=True)


def _connection_factory(url: str, settings: ServerSettings, name: str) -> Any:
    try:
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise Misconfigured(f"REDIS_URL: {error}") from None
    kind = options.pop("connection_class", Connection)
    options |= {
        "protocol": 2,
        "socket_timeout": None,
        "socket_connect_timeout": settings.connect_timeout,
        "client_name": f"executor-{name}",
    }
    return lambda: kind(**options)
