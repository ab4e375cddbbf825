"""Somebody who submits all the time, and what became of it: the measure of what a fault costs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from executor import Client
from executor.errors import ExecutorError
from executor.streams.channel import pairs
from tests.support.stack import Stack
from tests.support.wait import wait_until


class Producer:
    """Submits small evaluations one after another, and notes when each was acknowledged (monotonic seconds)."""

    def __init__(self, client: Client) -> None:
        self.acknowledged: dict[str, float] = {}
        self._client = client
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        for number in range(10**9):
            name = f"e-{number}"
            try:
                await self._client.submit(f"print({number})", id=name)
            except ExecutorError:
                await asyncio.sleep(0.05)  # the server is away: as any caller would
                continue
            self.acknowledged[name] = time.monotonic()
            await asyncio.sleep(0.02)  # a rate that one worker keeps up with

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def ended(stack: Stack) -> Counter[str]:
    return Counter(entry["id"] for entry in await stack.stream(stack.cell.keys.results()))


async def settle(stack: Stack, ids: set[str]) -> Counter[str]:
    """Wait until every evaluation that the server knows of has ended; how often each id has."""

    async def complete() -> bool:
        try:
            known = {name for name in ids if await stack.client.state(name)}
            ingress = stack.cell.keys.requests()
            waits = await stack.redis.call("XPENDING", ingress, "dispatchers")
            last = await stack.redis.call("XREVRANGE", ingress, "+", "-", "COUNT", 1)
            (group,) = [pairs(flat) for flat in await stack.redis.call("XINFO", "GROUPS", ingress)]
            unread = bool(last) and last[0][0] != group[b"last-delivered-id"]
            return not waits[0] and not unread and known <= set(await ended(stack))
        except ExecutorError:
            return False

    await wait_until(complete, "what the server knows has ended", 120)
    return await ended(stack)


async def flows(producer: Producer, since: float, count: int = 50) -> float:
    """Wait until so much was acknowledged since a moment; seconds from then to the first of it."""

    def enough() -> bool:
        return sum(at > since for at in producer.acknowledged.values()) >= count

    await wait_until(enough, "work flows", 90)
    return min(at for at in producer.acknowledged.values() if at > since) - since
