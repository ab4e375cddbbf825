"""Fixtures of all tests: a real server for each test process, a prefix for each test, and the leak check."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from cli.embedded import EmbeddedServer
from tests.support.servers import server_program, version_of
from tests.support.stack import Stack
from worker.kernel.tree import descendants

PERSISTENT = ("requests", "lane", "results", "dead")
"""First words of keys that live as long as their cell: streams that are trimmed or capped instead of expiring."""


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """One server for this test process."""
    running = EmbeddedServer(program=server_program())
    yield running
    running.close()


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server of the test's own, to be mistreated."""
    running = EmbeddedServer(program=server_program())
    yield running
    running.close()


@pytest.fixture
async def stack(server: EmbeddedServer) -> AsyncIterator[Stack]:
    """Programs under a prefix that no other test uses; leaves nothing behind, which is checked."""
    before = set(descendants(os.getpid()))
    prefix = f"t{secrets.token_hex(4)}"
    running = Stack(server.url, prefix)
    yield running
    await running.close()
    leaked = [key async for key in immortal_keys(Stack(server.url, prefix))]
    assert not leaked, f"keys without a TTL: {leaked}"
    left = set(descendants(os.getpid())) - before
    assert not left, f"processes left behind: {left}"


async def immortal_keys(looking: Stack) -> AsyncIterator[str]:
    """Keys of a prefix that would stay for ever."""
    try:
        prefix = looking.cell.keys.prefix
        keys = [key.decode() for key in await looking.redis.call("KEYS", f"{prefix}*")]
        for key in keys:
            kind = key.removeprefix(f"{prefix}:").partition(":")[0]
            if kind not in PERSISTENT and await looking.redis.call("PTTL", key) == -1:
                yield key
    finally:
        await looking.close()


def pytest_report_header() -> str:
    """Which server the run is about."""
    return f"server: {version_of(server_program())}"
