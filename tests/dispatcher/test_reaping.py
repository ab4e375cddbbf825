"""Consumers of programs that are gone do not stay in the groups for ever."""

from __future__ import annotations

import pytest

from executor.keys import DISPATCHERS, WORKERS
from executor.streams.channel import pairs
from executor.streams.lane import Lane
from executor.streams.upkeep import Upkeep
from tests.support.stack import Stack
from tests.support.wait import wait_until

LANE = "warm.python"


async def consumers(stack: Stack, stream: str, group: str) -> set[str]:
    return {pairs(raw)[b"name"].decode() for raw in await stack.redis.call("XINFO", "CONSUMERS", stream, group)}


@pytest.fixture
async def hasty(stack: Stack) -> Stack:
    """Leases run out as soon as they may."""
    return Stack(stack.cell.url, stack.cell.keys.prefix, EXECUTOR_LEASE="0.3", EXECUTOR_JANITOR_INTERVAL="0.1")


async def test_a_worker_that_died_with_an_entry_in_hand_is_no_consumer_for_ever(hasty: Stack) -> None:
    """Its registration goes while it still holds the entry; nothing else told of it."""
    await hasty.dispatcher()
    worker = await hasty.worker()
    handle = await hasty.client.submit("import time; time.sleep(30)", max_attempts=1)
    await wait_until(lambda: hasty.has_state(handle.id, "running"), "it runs")

    worker.kill()

    assert (await handle.wait(20)).outcome == "lost"

    async def gone() -> bool:
        return await consumers(hasty, hasty.cell.keys.lane(LANE), WORKERS) == set()

    await wait_until(gone, "the consumer is gone")
    await hasty.close()


async def test_a_dispatcher_that_died_is_no_consumer_for_ever(hasty: Stack) -> None:
    stream = hasty.cell.keys.requests()
    await hasty.dispatcher()
    await hasty.redis.call("XGROUP", "CREATECONSUMER", stream, DISPATCHERS, "of-the-dead")

    async def only_the_living() -> bool:
        found = await consumers(hasty, stream, DISPATCHERS)
        return len(found) == 1 and "of-the-dead" not in found

    await hasty.client.submit("pass")
    await wait_until(only_the_living, "the dead dispatcher's consumer is gone")
    await hasty.close()


async def test_who_holds_something_stays(hasty: Stack) -> None:
    stream = hasty.cell.keys.lane(LANE)
    await Lane(hasty.cell, LANE, "holds").ensure()
    await hasty.add(stream, id="one")
    await hasty.redis.call("XREADGROUP", "GROUP", WORKERS, "holds", "COUNT", 1, "STREAMS", stream, ">")
    await hasty.redis.call("XGROUP", "CREATECONSUMER", stream, WORKERS, "unknown")
    upkeep = Upkeep(hasty.cell)
    assert await upkeep.reap(stream, WORKERS) == []

    async def reaped() -> bool:
        return await upkeep.reap(stream, WORKERS) == ["unknown"]

    await wait_until(reaped, "the one without anything is removed")
    assert await consumers(hasty, stream, WORKERS) == {"holds"}
    await hasty.close()
