"""A TCP proxy before the server that can withhold, and that can break a connection between a command and its reply."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closed like this, a connection is reset."""


class Proxy:
    """Passes bytes between its port and the server's.

    Attributes:
        port: that clients connect to.
        cut: how many connections were broken.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._flows = {"requests": asyncio.Event(), "replies": asyncio.Event()}
        self._cutting = False
        self.port = 0
        self.cut = 0

    async def start(self) -> None:
        """Listen."""
        for flow in self._flows.values():
            flow.set()
        self._listener = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def withhold(self, flow: str, seconds: float) -> None:
        """Keep `requests` or `replies` back for a time; then everything arrives, however late it is."""
        self._flows[flow].clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._flows[flow].set()

    async def reset(self, seconds: float) -> int:
        """For a time, break each connection when a reply comes by: the command was done, its caller cannot know."""
        before, self._cutting = self.cut, True
        try:
            await asyncio.sleep(seconds)
        finally:
            self._cutting = False
        return self.cut - before

    async def close(self) -> None:
        """Break everything."""
        if self._listener is not None:
            self._listener.close()
        for link in self._links:
            link.cancel()
        if self._links:
            await asyncio.wait(self._links)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        with suppress(asyncio.CancelledError):
            await self._link(reader, writer)
        self._links.discard(task)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._server)
        except OSError:
            writer.close()
            return
        pumps = [
            asyncio.create_task(self._pump("requests", reader, far_writer), name="requests"),
            asyncio.create_task(self._pump("replies", far_reader, writer), name="replies"),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.wait(pumps)
            for one in (writer, far_writer):
                one.transport.abort()

    async def _pump(self, flow: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flows[flow].wait()
                if flow == "replies" and self._cutting:
                    self.cut += 1
                    _reset(writer)
                    return
                writer.write(data)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    peer: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
