"""The three pages every program serves: /healthz, /readyz and /metrics.

It runs on the program's own event loop, so that a hung loop answers nobody and the probe fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from executor.errors import Misconfigured
from executor.settings import TelemetrySettings
from executor.telemetry import render

_LARGEST_REQUEST: Final = 8192
_PATIENCE: Final = 5.0


class HealthServer:
    """A minimal HTTP/1.1 server for probes and scrapes.

    Attributes:
        port: where it listens once started; 0 when it does not.
    """

    def __init__(self, settings: TelemetrySettings, ready: Callable[[], str]) -> None:
        """Make a server.

        Args:
            settings: host and port (-1: serve nothing).
            ready: why the program is not ready; empty when it is.
        """
        self._settings = settings
        self._ready = ready
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            Misconfigured: the port is taken.
        """
        if self._settings.health_port < 0:
            return
        try:
            self._server = await asyncio.start_server(
                self._answer, self._settings.health_host, self._settings.health_port, limit=_LARGEST_REQUEST
            )
        except OSError as error:
            port = self._settings.health_port
            message = f"EXECUTOR_HEALTH_PORT: cannot listen on {port} ({error.strerror}); set another, or 0 for any"
            raise Misconfigured(message) from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._page(head.split(b"\r\n", 1)[0].decode("latin-1"))
                lines = (
                    f"HTTP/1.1 {status}",
                    f"Content-Type: {kind}",
                    f"Content-Length: {len(body)}",
                    "Connection: close",
                )
                writer.write("\r\n".join((*lines, "", "")).encode() + body)
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def _page(self, request_line: str) -> tuple[str, str, bytes]:
        method, _, rest = request_line.partition(" ")
        path = rest.split(" ")[0].split("?")[0]
        plain = "text/plain; charset=utf-8"
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", plain, b"only GET\n"
        if path == "/healthz":
            return "200 OK", plain, b"ok\n"
        if path == "/readyz":
            reason = self._ready()
            return (
                ("503 Service Unavailable", plain, f"{reason}\n".encode()) if reason else ("200 OK", plain, b"ready\n")
            )
        if path == "/metrics":
            return "200 OK", "text/plain; version=0.0.4; charset=utf-8", render()
        return "404 Not Found", plain, b"there are /healthz, /readyz and /metrics\n"
