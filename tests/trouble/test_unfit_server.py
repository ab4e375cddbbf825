"""A server that cannot carry a cell is refused, with what to do; mended, the programs go on by themselves."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from cli import exits
from cli.embedded import EmbeddedServer
from executor.errors import Misconfigured, ServerUnavailable
from executor.fitness import faults
from executor.streams.probe import Probe
from tests.support.command import execute
from tests.support.failover import free_ports
from tests.support.servers import server_program
from tests.support.stack import Stack
from tests.support.wait import wait_until


@pytest.fixture
async def looking(own_server: EmbeddedServer) -> AsyncIterator[Stack]:
    running = Stack(own_server.url, "t")
    yield running
    await running.close()


async def test_work_waits_while_the_server_may_evict_it(looking: Stack) -> None:
    await looking.redis.call("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    worker = await looking.worker(wait=False)
    assert worker.stderr is not None
    refused = await execute({**looking.environ, "REDIS_URL": looking.cell.url}, "up")
    line = worker.stderr.readline().decode()

    await looking.redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await looking.dispatcher()
    assert (await looking.client.run("print(1)", wait_timeout=30)).stdout == "1\n"

    assert refused.code == exits.USAGE
    for text in (refused.stderr, line):
        assert "maxmemory-policy is volatile-lru" in text
        assert "CONFIG SET maxmemory-policy noeviction" in text


async def test_a_running_program_looks_again_after_an_outage(looking: Stack, caplog: pytest.LogCaptureFixture) -> None:
    """The server that comes back may be another one, or have another configuration."""
    caplog.set_level(logging.INFO)
    await looking.dispatcher()
    await looking.redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    await looking.redis.call("CLIENT", "KILL", "TYPE", "normal")

    def refuses() -> bool:
        return any("maxmemory-policy is allkeys-lru" in getattr(one, "reason", "") for one in caplog.records)

    await wait_until(refuses, "the dispatcher says why it does not serve")
    await looking.redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await wait_until(lambda: "the server can be used again" in caplog.text, "it serves again")


@pytest.mark.parametrize(("prefix", "serves"), [("t", False), ("{t}", True)])
async def test_a_redis_cluster_needs_a_hash_tag(prefix: str, serves: bool) -> None:
    (port,) = free_ports(1)
    server = EmbeddedServer(extra=(f"port {port}", "bind 127.0.0.1", "cluster-enabled yes"), program=server_program())
    stack = Stack(server.url, prefix)
    try:
        await stack.redis.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

        async def covered() -> bool:
            return b"cluster_state:ok" in await stack.redis.call("CLUSTER", "INFO")

        await wait_until(covered, "it has every slot")
        if serves:
            await stack.dispatcher()
            await stack.worker()
            assert (await stack.client.run("print(1)", wait_timeout=30)).stdout == "1\n"
        else:
            with pytest.raises(Misconfigured, match=r"no hash tag .* EXECUTOR_PREFIX='\{t\}'"):
                await Probe(stack.redis, prefix).look()
    finally:
        await stack.close()
        server.close()


async def test_a_replica_is_no_server_to_start_on(looking: Stack) -> None:
    probe = Probe(looking.redis, "t")
    await looking.redis.call("REPLICAOF", "127.0.0.1", "1")

    with pytest.raises(ServerUnavailable, match="point REDIS_URL at the primary"):
        await probe.look()

    await looking.redis.call("REPLICAOF", "NO", "ONE")
    await probe.look()


async def test_that_nothing_is_kept_is_said_once(looking: Stack, caplog: pytest.LogCaptureFixture) -> None:
    await looking.dispatcher()
    await looking.redis.call("CLIENT", "KILL", "TYPE", "normal")
    assert await looking.add(code="pass")
    said = [record for record in caplog.records if "append-only file" in record.getMessage()]

    assert [record.levelno for record in said] == [logging.WARNING]


async def test_a_user_that_may_not_look_serves_and_says_so(
    own_server: EmbeddedServer, looking: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """As with the users of a release before this look."""
    await looking.redis.call("ACL", "SETUSER", "old", "on", ">old", "~*", "&*", "+@all", "-info")
    password = own_server.url.partition("//:")[2].partition("@")[0]
    old = Stack(own_server.url.replace(f":{password}@", "old:old@"), "t")
    try:
        await old.dispatcher()
        await old.worker()
        assert (await old.client.run("print(1)", wait_timeout=30)).stdout == "1\n"
    finally:
        await old.close()

    assert "INFO is refused" in caplog.text


@pytest.mark.parametrize(
    ("info", "seen"),
    [
        ({"redis_version": "6.2.14"}, "Redis 6.2.14"),
        ({"redis_version": "7.0.0"}, None),
        ({"redis_version": "8.0.2"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.5"}, None),
        ({"maxmemory_policy": "noeviction", "maxmemory": "1"}, None),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": "1"}, "volatile-ttl"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": "0"}, "allkeys-lru"),
        ({"cluster_enabled": "1"}, "no hash tag"),
        ({"cluster_enabled": "0"}, None),
        ({}, None),
    ],
)
def test_what_info_says_is_judged(info: dict[str, str], seen: str | None) -> None:
    found = [str(fault) for fault in faults(info, "executor")]

    assert bool(found) is bool(seen)
    assert all(seen in text for text in found if seen)


@pytest.mark.parametrize(("prefix", "count"), [("{executor}", 0), ("a{b}c", 0), ("{}a", 1), ("a}b{", 1)])
def test_a_hash_tag_is_what_the_server_takes_for_one(prefix: str, count: int) -> None:
    assert len(list(faults({"cluster_enabled": "1"}, prefix))) == count
