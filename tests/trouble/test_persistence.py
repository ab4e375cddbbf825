"""What a killed server has kept, by what it was told to keep; the windows are those of docs/operations.md."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from cli.embedded import EmbeddedServer
from tests.support.producer import Producer, flows, settle
from tests.support.servers import server_program
from tests.support.stack import Stack

log = logging.getLogger(__name__)

pytestmark = pytest.mark.timeout(240)

KILLS = 3


@pytest.mark.parametrize(("sync", "window"), [("always", 0.0), ("everysec", 2.0)])
async def test_a_killed_server_has_what_was_acknowledged_before_the_window(
    tmp_path: Path, sync: str, window: float
) -> None:
    server = EmbeddedServer(tmp_path, (f"appendfsync {sync}",), server_program())
    stack = Stack(server.url, "t", EXECUTOR_LEASE="1")
    kills: list[float] = []
    try:
        await stack.dispatcher()
        await stack.worker()
        producer = Producer(stack.client)
        await flows(producer, 0)
        for _ in range(KILLS):
            server.kill()
            kills.append(time.monotonic())
            server.restart()
            await flows(producer, kills[-1])
        await producer.stop()
        counted = await settle(stack, set(producer.acknowledged))
    finally:
        await stack.close()
        server.close()

    lost = {
        name: min(kill - at for kill in kills if kill >= at)
        for name, at in producer.acknowledged.items()
        if name not in counted
    }
    log.warning("%s: %d acknowledged, %d lost in %d kills", sync, len(producer.acknowledged), len(lost), KILLS)
    assert all(age <= window for age in lost.values()), lost
    assert set(counted.values()) == {1}


async def test_a_server_that_keeps_nothing_begins_anew(own_server: EmbeddedServer) -> None:
    """What was accepted is gone, with the groups and scripts; the programs make them again and serve."""
    stack = Stack(own_server.url, "t", EXECUTOR_LEASE="1")
    try:
        await stack.dispatcher()
        await stack.worker()
        producer = Producer(stack.client)
        await flows(producer, 0)
        await asyncio.to_thread(own_server.kill)
        own_server.restart()
        await flows(producer, time.monotonic())
        await producer.stop()
        assert (await stack.client.run("print(1)", wait_timeout=30)).stdout == "1\n"
    finally:
        await stack.close()
