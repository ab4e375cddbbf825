"""Sentinels name the primary: programs find it, follow a failover by themselves, and lose no more than is said."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor import Client
from executor.errors import ExecutorError, Misconfigured, NotAuthorized, ServerUnavailable
from executor.settings import load
from executor.streams.channel import Channel
from tests.support.command import execute
from tests.support.failover import SERVICE, Failover, Node
from tests.support.servers import server_program
from tests.support.stack import Stack
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(300)

log = logging.getLogger(__name__)

WINDOW = 1.0
"""Seconds before the death of a primary of which acknowledged work may be lost; docs/operations.md says so."""


@pytest.fixture
async def failover(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Failover]:
    """Two servers, or what a test asks for."""
    running = Failover(tmp_path / "nodes", server_program(), *getattr(request, "param", ()))
    try:
        await running.ready()
        yield running
    finally:
        await running.close()


@pytest.fixture
async def programs(failover: Failover) -> AsyncIterator[Stack]:
    """Programs that know the sentinels only. They are ended before the servers."""
    running = Stack(failover.url, "t", EXECUTOR_LEASE="2", EXECUTOR_REPLY_TIMEOUT="2")
    yield running
    await running.close()


def record(fault: str, acknowledged: int, lost: dict[str, float], down: float) -> None:
    """Shown with `-o log_cli=true`; docs/operations.md quotes it."""
    log.warning("%s: %d acknowledged, %d lost, work again after %.1f s", fault, acknowledged, len(lost), down)


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
            waits = await stack.redis.call("XPENDING", stack.cell.keys.requests(), "dispatchers")
            return not waits[0] and known <= set(await ended(stack))
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


async def is_replica(node: Node) -> None:
    """Wait until a server is one, which no program is connected to."""

    async def follows() -> bool:
        return await node.role() == "slave"

    await wait_until(follows, "the old primary is made a replica", 90)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_primary_that_goes_costs_the_window_and_nothing_else(
    failover: Failover, programs: Stack, fault: str
) -> None:
    await programs.dispatcher()
    await programs.worker()
    old = failover.servers[0]
    producer = Producer(programs.client)
    await flows(producer, 0)

    getattr(old, fault)()
    gone = time.monotonic()
    new = await failover.promoted()
    down = await flows(producer, gone)
    old.start() if fault == "kill" else old.thaw()
    await is_replica(old)
    await flows(producer, time.monotonic())
    await producer.stop()
    counted = await settle(programs, set(producer.acknowledged))

    lost = {name: gone - at for name, at in producer.acknowledged.items() if name not in counted}
    record(fault, len(producer.acknowledged), lost, down)
    assert all(0 <= age <= WINDOW for age in lost.values()), lost
    assert set(counted.values()) == {1}
    assert await failover.clients(old) == []
    assert await failover.clients(new) != []


@pytest.mark.parametrize(
    "failover", [(["min-replicas-to-write 1", "min-replicas-max-lag 2"], 2)], indirect=True, ids=["two replicas"]
)
async def test_a_planned_failover_costs_a_second_where_a_primary_wants_a_replica(
    failover: Failover, programs: Stack
) -> None:
    """The old primary takes writes until a sentinel makes it a replica, seconds later; alone it takes none."""
    await programs.dispatcher()
    await programs.worker()
    producer = Producer(programs.client)
    await flows(producer, 0)

    asked = time.monotonic()
    await failover.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
    await failover.promoted()
    down = await flows(producer, time.monotonic())
    await is_replica(failover.servers[0])
    await flows(producer, time.monotonic())
    await producer.stop()
    counted = await settle(programs, set(producer.acknowledged))

    lost = {name: at - asked for name, at in producer.acknowledged.items() if name not in counted}
    record("planned", len(producer.acknowledged), lost, down)
    assert max(lost.values(), default=0) - min(lost.values(), default=0) <= 2 * WINDOW, lost
    assert set(counted.values()) == {1}


async def test_every_command_takes_the_address_of_sentinels(failover: Failover, programs: Stack) -> None:
    await programs.dispatcher()
    await programs.worker()

    done = await execute(programs.environ, "submit", "-c", "print(6*7)", "--wait-timeout", "60")
    doctor = await execute(programs.environ, "doctor", "--no-cluster", "--json")
    prompt = await execute(programs.environ, "redis", "PING")

    assert (done.code, done.stdout) == (0, "42\n")
    assert doctor.json["error"] == 0, doctor.stdout
    assert "PONG" in prompt.stdout
    assert all(node.port != 0 for node in failover.servers)


async def test_what_sentinels_say_is_passed_on(failover: Failover) -> None:
    with pytest.raises(ServerUnavailable, match=r"no sentinel names a primary of 'other'.* it does not watch"):
        await ping(failover.url.replace(f"/{SERVICE}?", "/other?"))
    with pytest.raises(NotAuthorized, match="sentinel_password in REDIS_URL"):
        await ping(failover.url.replace("secret-sentinel", "wrong"))
    with pytest.raises(NotAuthorized, match="set REDIS_URL with a user"):
        await ping(failover.url.replace("secret-server", "wrong"))
    for sentinel in failover.sentinels[1:]:
        sentinel.kill()
    assert await ping(failover.url) == b"PONG"
    failover.sentinels[0].kill()
    with pytest.raises(ServerUnavailable, match=r"127.0.0.1:\d+: the server cannot answer"):
        await ping(failover.url)


async def test_a_server_that_says_it_is_a_replica_is_not_used(failover: Failover) -> None:
    """Sentinels that have not heard of a demotion yet name it all the same."""
    await failover.servers[0].ask("REPLICAOF", "127.0.0.1", str(failover.servers[1].port))

    with pytest.raises(ServerUnavailable, match="does not know it yet"):
        await ping(failover.url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+sentinel://a:1,b:2", "with the service that the sentinels watch"),
        ("redis+sentinel://a:1,b:x/cell", "'b:x' is not a sentinel's host:port"),
        ("redis+sentinel://a:1,/cell", "'' is not a sentinel's host:port"),
        ("redis+sentinel://a/cell/first", "with the service"),
        ("redis+sentinel://a/cell?colour=blue", "'colour' is no option here"),
    ],
)
async def test_an_address_that_cannot_be_read_says_what_one_looks_like(url: str, reason: str) -> None:
    with pytest.raises(Misconfigured, match=reason):
        Channel(url, load({}).server, "test")


async def ping(url: str) -> object:
    channel = Channel(url, load({}).server, "test")
    try:
        return await channel.call("PING")
    finally:
        await channel.close()
