"""A caller that knows no client: commands on a socket, as any language could."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Self, cast
from urllib.parse import urlsplit

import hiredis

_pack = cast(Callable[[tuple[str | bytes | int, ...]], bytes], hiredis.pack_command)


class Refused(Exception):
    """The server answered with an error."""


class Wire:
    """One connection.

    Attributes:
        url: `redis://:password@host:port`.
    """

    def __init__(self, url: str, patience: float) -> None:
        self._parts = urlsplit(url)
        self._patience = patience
        self._parser = hiredis.Reader()

    async def __aenter__(self) -> Self:
        host, port = self._parts.hostname, self._parts.port
        async with asyncio.timeout(self._patience):
            self._reader, self._writer = await asyncio.open_connection(host, port)
        await self.call("AUTH", self._parts.password or "")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def call(self, *words: str | bytes | int, patience: float = 0) -> Any:
        """Send one command and read its reply.

        Raises:
            Refused: an error was the reply.
            OSError: the connection broke, or nothing came in time.
        """
        self._writer.write(_pack(words))
        async with asyncio.timeout(self._patience + patience):
            while (reply := self._parser.gets()) is False:
                data = await self._reader.read(65536)
                if not data:
                    raise ConnectionResetError("the connection ended")
                self._parser.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise Refused(str(reply))
        return reply


async def primary_of(url: str) -> str:
    """The address itself, or the primary's that the first sentinel of a redis+sentinel:// address names."""
    found = re.match(r"redis\+sentinel://:(?P<password>[^@]*)@(?P<hosts>[^/]*)/(?P<service>.*)", url)
    if found is None:
        return url
    for host in found["hosts"].split(","):
        name, _, port = host.partition(":")
        try:
            reader, writer = await asyncio.open_connection(name, int(port))
            writer.write(_pack(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", found["service"])))
            parser = hiredis.Reader()
            async with asyncio.timeout(1):
                while (reply := parser.gets()) is False:
                    parser.feed(await reader.read(4096))
            writer.close()
        except OSError:
            continue
        if reply and not isinstance(reply, hiredis.ReplyError):
            return f"redis://:{found['password']}@{reply[0].decode()}:{reply[1].decode()}"
    raise ConnectionError("no sentinel names a primary")


async def has_replica(url: str) -> bool:
    """Whether the primary at an address has a replica that follows it."""
    try:
        async with Wire(await primary_of(url), 1) as wire:
            told = await wire.call("INFO", "replication")
    except (OSError, Refused):
        return False
    return b"state=online" in told
