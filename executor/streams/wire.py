"""The wire: connections to where a URL points now, and our errors for redis-py's.

The only module that imports redis. redis-py brings addresses, TLS, authentication and parsing. Its client classes are
not used, because they repeat commands after an error by themselves (ten times by default in redis 8), which adds
entries twice.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final

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
from executor.streams.address import HostPort, parse_address
from executor.streams.sentinels import find_primary
from executor.streams.tls import advice, hung_up, stamp, unreadable

# redis imports OpenTelemetry's metrics and their SDK when they are installed, for metrics that are off: a quarter of
# a worker's start-up. It takes an ImportError for "not installed".
_UNUSED: Final = "opentelemetry"
_HIDE = _UNUSED not in sys.modules
if _HIDE:
    sys.modules[_UNUSED] = None  # type: ignore[assignment]
try:
    import redis.exceptions as redis_errors
    from redis.asyncio.connection import Connection, SSLConnection, parse_url
finally:
    if _HIDE:
        del sys.modules[_UNUSED]

Link = Connection
"""An open connection."""
FAILURES: Final = (redis_errors.RedisError, OSError)
"""What a connection raises when it is of no use any more."""
REFUSED: Final = redis_errors.ResponseError
"""What it raises for a reply that is an error."""

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
    return _unavailable(error, text) or PermanentError(f"the server refuses a command ({text})")


def _unavailable(error: BaseException, text: str) -> ServerUnavailable | None:
    """The error, where another try can succeed."""
    if isinstance(error, redis_errors.OutOfMemoryError) or "OOM command" in text:
        return ServerUnavailable(f"the server is full ({text}): raise maxmemory or let results expire", retry_after=2)
    if isinstance(error, redis_errors.ReadOnlyError):
        return ServerUnavailable(
            f"the server is a read-only replica ({text}): point REDIS_URL at the primary", retry_after=2
        )
    if isinstance(error, redis_errors.AskError):
        return ServerUnavailable(
            f"another node of the Redis Cluster has our keys ({text}): point REDIS_URL at that one"
        )
    away = (
        redis_errors.ConnectionError,
        redis_errors.TimeoutError,
        redis_errors.ClusterDownError,
        redis_errors.TryAgainError,
    )
    if (
        not isinstance(error, (*away, OSError, asyncio.IncompleteReadError))
        and text.split(" ", 1)[0] not in _AWAY_CODES
    ):
        return None
    if words := advice(text):
        return ServerUnavailable(f"no TLS connection to the server ({text}): {words}")
    return ServerUnavailable(f"the server cannot answer ({text}): check that it runs and that REDIS_URL names it")


def is_demoted(reply: object) -> bool:
    """Whether a reply says that the server is a replica, or a primary that its replicas have left for another."""
    return isinstance(reply, redis_errors.ReadOnlyError) or (
        isinstance(reply, redis_errors.ResponseError) and str(reply).startswith("NOREPLICAS")
    )


class Dialer:
    """Opens connections to where a URL points now: a server, or whichever server the sentinels name."""

    def __init__(self, url: str, settings: ServerSettings, name: str) -> None:
        address = parse_address(url)
        self._settings = settings
        self._server = _maker(address.server, settings, name)
        self._sentinel = _maker(address.sentinel, settings, name) if address.sentinels else self._server
        self._scheme = address.server.partition(":")[0]
        self._service, self._sentinels = address.service, address.sentinels

    async def dial(self) -> Connection:
        """A new connection; by way of sentinels, to a server that says that it is the primary.

        Raises:
            ExecutorError: there is none; Misconfigured when another try cannot help.
        """
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                if not self._sentinels:
                    return await _connected(self._server())
                host, port = await find_primary(self._service, self._sentinels, self._ask)
                return await self._primary(host, port)
        except TimeoutError:
            why = "" if self._scheme != "rediss" else "; where it speaks no TLS, that is a redis:// address"
            raise ServerUnavailable(f"no connection within {self._settings.connect_timeout:g} s{why}") from None

    async def _ask(self, sentinel: HostPort) -> Any:
        host, port = sentinel
        connection = await _connected(self._sentinel(host=host, port=port))
        return await _only(connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)

    async def _primary(self, host: str, port: int) -> Connection:
        connection = await _connected(self._server(host=host, port=port))
        role = b"master"
        try:
            await connection.send_command("HELLO")
            role = _named(await connection.read_response(disable_decoding=True))[b"role"]
        except redis_errors.NoPermissionError:
            pass  # a write will tell
        except FAILURES as error:
            await connection.disconnect(nowait=True)
            raise translate(error) from error
        if role != b"master":
            await connection.disconnect(nowait=True)
            raise ServerUnavailable(f"{host}:{port} is the primary of {self._service!r} and does not know it yet")
        return connection


def _named(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def _connected(connection: Connection) -> Connection:
    if isinstance(connection, SSLConnection):
        _use_certificates(connection)
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except FAILURES as error:
        ours = translate(error)
        if isinstance(ours, ServerUnavailable) and (
            words := hung_up(str(error), isinstance(connection, SSLConnection))
        ):
            raise ServerUnavailable(f"{ours}; {words}") from error
        raise ours from error
    except asyncio.CancelledError:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def _only(connection: Connection, *command: str) -> Any:
    """The reply to a command that is the only one of its connection."""
    try:
        await connection.send_command(*command)
        return await connection.read_response(disable_decoding=True)
    except FAILURES as error:
        raise translate(error) from error
    finally:
        await connection.disconnect(nowait=True)


_certificates: dict[str, Any] = {}
"""What was read last, by options and times of the files: reading the system's authorities takes some 10 ms."""


def _use_certificates(connection: SSLConnection) -> None:
    """Read the files now, so that an error names them, and anew when they were renewed."""
    try:
        key = stamp(connection.ssl_context)
        if key not in _certificates:
            connection.ssl_context.get()
            _certificates.clear()
            _certificates[key] = connection.ssl_context
        connection.ssl_context = _certificates[key]
    except (OSError, ValueError) as error:
        raise ServerUnavailable(f"REDIS_URL: its certificates cannot be used ({error}): mend the files") from error


def _maker(url: str, settings: ServerSettings, name: str) -> Callable[..., Connection]:
    try:
        options: dict[str, Any] = dict(parse_url(url))
        kind = options.pop("connection_class", Connection)
        options |= {
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": settings.connect_timeout,
            "client_name": f"executor-{name}",
        }
        kind(**options)
        if missing := unreadable(options):
            raise ValueError(missing)
    except TypeError as error:
        option = str(error).rpartition(" ")[2]
        raise Misconfigured(f"REDIS_URL: {option} is no option here; those of TLS are for rediss://") from None
    except (ValueError, redis_errors.RedisError) as error:
        raise Misconfigured(f"REDIS_URL: {error}") from None
    return lambda **where: kind(**{**options, **where})
