"""Sentinels name the primary: programs find it, follow a failover by themselves, and lose no more than is said."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor.errors import Misconfigured, NotAuthorized, ServerUnavailable
from executor.settings import load
from executor.streams.channel import Channel, pairs
from tests.support.command import execute
from tests.support.failover import SERVICE, Failover, Node, Shape
from tests.support.producer import Producer, flows, settle
from tests.support.servers import server_program
from tests.support.stack import Stack
from tests.support.users import printed_users
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(300)

log = logging.getLogger(__name__)

WINDOW = 1.0
"""Seconds before the death of a primary of which acknowledged work may be lost; docs/operations.md says so."""


def record(fault: str, acknowledged: int, lost: dict[str, float], down: float) -> None:
    """Shown with `-o log_cli=true`; docs/operations.md quotes it."""
    log.warning("%s: %d acknowledged, %d lost, work again after %.1f s", fault, acknowledged, len(lost), down)


@pytest.fixture
async def failover(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Failover]:
    """Two servers, or what a test asks for."""
    running = Failover(tmp_path / "nodes", server_program(), getattr(request, "param", None))
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
    "failover",
    [Shape(extra=("min-replicas-to-write 1", "min-replicas-max-lag 2"), replicas=2)],
    indirect=True,
    ids=["two replicas"],
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


async def test_each_program_follows_as_its_own_user(tmp_path: Path) -> None:
    """The users of the manifests, with those for replicas and sentinels: nothing that any of them needs is refused."""
    users = tmp_path / "users.acl"
    printed = printed_users(REPLICA_PASSWORD="secret-replica", SENTINEL_PASSWORD="secret-sentinel")
    users.write_text(printed + "user boss on >secret-server allchannels ~* +@all\n")
    failover = Failover(tmp_path / "nodes", server_program(), Shape(users=users))
    stacks = {
        role: Stack(failover.url_of(role, f"secret-{role}"), "executor", EXECUTOR_LEASE="2")
        for role in ("dispatcher", "worker", "caller", "doctor")
    }
    try:
        await failover.ready()
        await stacks["dispatcher"].dispatcher()
        await stacks["worker"].worker(wait=False)
        await wait_until(lambda: stacks["doctor"].registered("worker-0"), "the worker is registered", 60)
        client = stacks["caller"].client
        assert (await client.run("print(1)", wait_timeout=60)).stdout == "1\n"
        failover.servers[0].kill()
        new = await failover.promoted()
        assert (await client.run("print(2)", wait_timeout=60)).stdout == "2\n"
        refused = [pairs(row) for row in await new.ask("ACL", "LOG")]
    finally:
        for stack in stacks.values():
            await stack.close()
        await failover.close()

    # A caller sends no script: until a dispatcher has, requests are appended plainly.
    assert {(one[b"username"], one[b"object"]) for one in refused} <= {(b"caller", b"eval")}


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
