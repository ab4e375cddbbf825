"""Live output of one attempt: chunks in order, sent while it runs, all sent before its commit."""

from __future__ import annotations

import asyncio
import logging

from executor.errors import ExecutorError, PermanentError
from executor.streams.lane import Lane, Lease
from executor.streams.terminal import Destination

log = logging.getLogger("worker")


class LiveOutput:
    """Publishes what it is given; what arrives during one call goes out with the next.

    A server that is away costs live chunks, never the result: the whole output comes with that. A key that holds
    something else costs all of them.
    """

    def __init__(self, lane: Lane, lease: Lease, to: Destination) -> None:
        self._lane = lane
        self._lease = lease
        self._to = to
        self._chunks: list[tuple[str, str]] = []
        self._closed = False
        self._sender: asyncio.Task[None] | None = None

    def put(self, chunks: list[tuple[str, str]]) -> None:
        """Take (stream name, text) chunks."""
        if self._closed:
            return
        self._chunks += chunks
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name=f"output-{self._to.id}")

    async def close(self) -> None:
        """Return when everything taken so far is sent."""
        if self._sender is not None:
            await self._sender

    async def _send(self) -> None:
        while self._chunks and not self._closed:
            chunks, self._chunks = self._chunks, []
            try:
                await self._lane.emit(self._lease, self._to, chunks)
            except ExecutorError as error:
                self._closed = isinstance(error, PermanentError)
                log.warning("live output is lost", extra={"evaluation_id": self._to.id, "error": str(error)})
