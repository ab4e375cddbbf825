"""A dispatcher that comes back answers what it had taken before it takes anything new."""

from __future__ import annotations

from typing import Any

import pytest

from executor.keys import DISPATCHERS
from executor.streams.ingress import Ingress
from tests.support.stack import Stack
from tests.support.wait import wait_until

NAME = "came-back"


async def test_what_was_taken_is_answered_before_anything_new_is_read(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read on while a backlog is worked off in small steps, it took the whole backlog into its pending list."""
    requests = stack.cell.keys.requests()
    await Ingress(stack.cell, NAME, ["default"]).ensure()
    ids = [await stack.add(code="pass") for _ in range(30)]
    await stack.redis.call("XREADGROUP", "GROUP", DISPATCHERS, NAME, "COUNT", 10, "STREAMS", requests, ">")
    held: list[int] = []
    exchange = Ingress.exchange

    async def looked_at(self: Ingress, *args: Any) -> Any:
        held.append(len(await stack.redis.call("XPENDING", requests, DISPATCHERS, "-", "+", 100, NAME)))
        return await exchange(self, *args)

    monkeypatch.setattr(Ingress, "exchange", looked_at)
    named = Stack(stack.environ["REDIS_URL"], stack.cell.keys.prefix, EXECUTOR_DISPATCHER_ID=NAME)
    try:
        await named.dispatcher()
        await wait_until(lambda: stack.has_state(ids[-1], "queued"), "all are admitted")
    finally:
        await named.close()

    assert held[0] == 0
