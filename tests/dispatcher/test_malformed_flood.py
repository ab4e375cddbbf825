"""A flood of malformed requests: each ends in exactly one rejection or one result, none is lost, none comes twice.

`FLOOD=1000 .venv/bin/pytest tests/dispatcher/test_malformed_flood.py` makes them a thousand; FLOOD_SEED, others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.embedded import EmbeddedServer
from executor.keys import DISPATCHERS
from executor.streams.channel import Command
from tests.dispatcher.test_large_requests import peak_mib
from tests.support.malformed import Malformed
from tests.support.parts import LANE
from tests.support.stack import Stack
from tests.support.wait import wait_until

COUNT = int(os.environ.get("FLOOD", "100000"))  # noqa: TID251 a test's own knob, not a setting
SEED = int(os.environ.get("FLOOD_SEED", "1"))  # noqa: TID251 the same
PATIENCE = 60 + COUNT / 200
"""Seconds; a quiet machine takes a tenth."""
MOST_MIB = 350

pytestmark = pytest.mark.timeout(2 * PATIENCE)


@pytest.fixture
async def flooded(own_server: EmbeddedServer) -> AsyncIterator[Stack]:
    """A server of its own that keeps every result."""
    running = Stack(own_server.url, "t", EXECUTOR_RESULTS_CAP=str(2 * COUNT + 1000), EXECUTOR_LOG_LEVEL="error")
    yield running
    await running.close()


async def add_all(stack: Stack, source: Malformed) -> dict[str, set[str]]:
    """Add every entry; returns for each the ids that it may be answered under."""
    expected: dict[str, set[str]] = {}
    batch: list[Command] = []
    names: list[str] = []
    for number in range(COUNT):
        words, name = source.entry(number)
        batch.append(("XADD", stack.cell.keys.requests(), "*", *words))
        names.append(name)
        if len(batch) == 250 or number == COUNT - 1:
            entries = [(await future).decode() for future in await stack.redis.pipeline(batch)]
            expected |= {entry: {entry, one} - {""} for entry, one in zip(entries, names, strict=True)}
            batch, names = [], []
    return expected


async def ids_of_results(stack: Stack) -> Counter[str]:
    """Every result by its id, a page at a time."""
    counted: Counter[str] = Counter()
    start = "-"
    while rows := await stack.redis.call("XRANGE", stack.cell.keys.results(), start, "+", "COUNT", 2000):
        for _, flat in rows:
            counted[dict(zip(flat[::2], flat[1::2], strict=True))[b"id"].decode()] += 1
        start = "(" + rows[-1][0].decode()
    return counted


async def drained(stack: Stack) -> bool:
    """Nothing is left to be answered, or to be run."""
    (group,) = await stack.redis.call("XINFO", "GROUPS", stack.cell.keys.requests())
    facts = dict(zip(group[::2], group[1::2], strict=True))
    view = await stack.upkeep.view(LANE)
    return (facts[b"lag"], facts[b"pending"], view.lag, view.pending) == (0, 0, 0, 0)


async def test_each_ends_once_and_the_dispatcher_lives(flooded: Stack, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("tenants: {default: {trusted: true}}\n")
    command = [sys.executable, "-m", "cli.main", "dispatcher"]
    dispatcher = subprocess.Popen(command, env={**flooded.environ, "EXECUTOR_POLICY": str(policy)})
    flooded.workers.append(dispatcher)  # ended with the stack
    await flooded.worker()
    began = time.monotonic()

    expected = await add_all(flooded, Malformed(SEED, flooded.cell.keys.reply("flood")))
    await wait_until(lambda: drained(flooded), "all are answered", PATIENCE)

    seconds = time.monotonic() - began
    print(f"{COUNT} in {seconds:.1f} s, {COUNT / seconds:.0f}/s, peak {peak_mib(dispatcher.pid):.0f} MiB")  # noqa: T201
    counted = await ids_of_results(flooded)
    wrong = {entry: names for entry, names in expected.items() if sum(counted[name] for name in names) != 1}
    assert not wrong, f"{len(wrong)} of {COUNT} (seed {SEED}) do not have one result"
    assert counted.total() == COUNT
    assert (await flooded.redis.call("XPENDING", flooded.cell.keys.requests(), DISPATCHERS))[0] == 0
    assert await flooded.redis.call("EXISTS", flooded.cell.keys.dead(), flooded.cell.keys.ages()) == 0
    assert dispatcher.poll() is None
    assert peak_mib(dispatcher.pid) < MOST_MIB
    assert (await flooded.client.run("print(1)", wait_timeout=20)).stdout == "1\n"
