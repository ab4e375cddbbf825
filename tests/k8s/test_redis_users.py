"""The users of k8s/base/redis-users.sh on a real server: each role does its work and nothing else."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dispatcher.surroundings import Surroundings
from executor.client import Client
from executor.errors import NotAuthorized
from executor.settings import load
from executor.streams.lane import Lane
from executor.streams.server import Cell
from executor.tracing import now_ns
from tests.support.stack import Stack
from tests.support.users import ROLES, Cluster, printed_users
from tests.support.wait import wait_until


def test_the_default_user_is_off_and_every_role_has_a_line() -> None:
    lines = printed_users().splitlines()

    assert lines[0] == "user default off"
    assert [line.split()[1] for line in lines[1:]] == list(ROLES)


async def test_dispatcher_worker_and_caller_complete_an_evaluation(cluster: Cluster) -> None:
    await cluster.stack("dispatcher").dispatcher()
    looking = cluster.stack("doctor")
    working = cluster.stack("worker")
    await working.worker(wait=False)
    await wait_until(lambda: looking.registered("worker-0"), "the worker is registered")

    async with cluster.caller() as client:
        result = await client.run("print(6 * 7)", wait_timeout=20, idempotency_key="k")
        handle = await client.submit("print('live', flush=True)", stream=True)
        chunks = [chunk.text async for chunk in handle.stream()]
        known = await client.state(handle.id)
        again = await client.result(handle.id)

    assert result.stdout == "42\n"
    assert chunks == ["live\n"]
    assert known["state"] == "done"
    assert again is not None
    await asyncio.sleep(2.5)  # two passes of the janitor
    assert await cluster.log() == []


async def test_a_caller_enqueues_by_the_dispatchers_script_and_without_it_appends(cluster: Cluster) -> None:
    await cluster.stack("dispatcher").dispatcher()
    looking = cluster.stack("doctor")

    async with cluster.caller() as client:
        first = await client.submit("pass", idempotency_key="k")
        await wait_until(lambda: looking.has_state(first.id, "queued"), "it is admitted")
        again = await client.submit("pass", idempotency_key="k")
        assert await cluster.log() == []
        await cluster.call("boss", "SCRIPT", "FLUSH")
        appended = await client.submit("pass", idempotency_key="k")
        await wait_until(lambda: looking.has_state(appended.id, "duplicate"), "it is known all the same")

    assert (again.id, appended.id == first.id) == (first.id, False)
    assert await cluster.log() == ["caller eval"]


async def test_agent_serves_job_lanes_only(cluster: Cluster) -> None:
    from dispatcher.policy import Policy

    await cluster.stack("dispatcher").dispatcher(Policy())
    async with cluster.caller() as client:
        handle = await client.submit("print('job')")
        await cluster.stack("agent").worker(wait=False, MODE="one-shot")
        result = await handle.wait(20)

    assert result.stdout == "job\n"
    assert await cluster.log() == []
    assert await cluster.denied("agent", "XLEN", "executor:lane:warm.python")
    assert await cluster.denied(
        "agent", "XREADGROUP", "GROUP", "workers", "a", "STREAMS", "executor:lane:warm.python", ">"
    )
    assert await cluster.denied(
        "worker", "XREADGROUP", "GROUP", "workers", "a", "STREAMS", "executor:lane:job.cpu", ">"
    )
    assert await cluster.denied("worker", "XADD", "executor:requests", "*", "code", "pass")


async def test_a_dead_worker_is_rescued(cluster: Cluster) -> None:
    """The janitor's scripts, as the dispatcher: expired leases, trims, the dead worker's registration."""
    await cluster.stack("dispatcher", EXECUTOR_LEASE="0.5").dispatcher()
    looking = cluster.stack("doctor")
    first = await _worker(cluster, looking, "first")
    async with cluster.caller() as client:
        handle = await client.submit("import time; time.sleep(1); print('done')")
        await wait_until(lambda: _runs(client, handle.id), "it runs")
        first.kill()
        await _worker(cluster, looking, "second")
        result = await handle.wait(20)

    assert result.attempt == 2
    await wait_until(lambda: looking.gone("first"), "the dead worker is forgotten")
    assert await cluster.log() == []


async def test_what_waits_in_vain_is_ended_and_a_start_is_told(cluster: Cluster, tmp_path: Path) -> None:
    """The other scripts of the janitor, and the notes about pods, as dispatcher and worker."""
    variables = {"EXECUTOR_TRACES": str(tmp_path / "spans"), "EXECUTOR_MAX_AGE": "2"}
    around = Surroundings(phases_of=lambda _: [("pod.scale", now_ns())])
    await cluster.stack("dispatcher", **variables).dispatcher(surroundings=around)
    looking = cluster.stack("doctor")
    async with cluster.caller() as client:
        old = await client.run("pass", wait_timeout=20)
        woke = await client.submit("pass")
        await wait_until(lambda: _is_queued(client, woke.id), "it waits")
        now = now_ns()
        await wait_until(lambda: now_ns() > now + 30 * 10**6, "the kernel's clock of processes has ticked since")
        await cluster.stack("worker", **variables).worker(wait=False)
        result = await woke.wait(20)
    await wait_until(lambda: "pod.scale" in (tmp_path / "spans").read_text(), "the start is told and taken")

    assert (old.outcome, result.outcome) == ("lost", "succeeded")
    assert (await looking.upkeep.view("warm.python")).lag == 0
    assert await cluster.log() == []


@pytest.mark.parametrize(
    ("role", "lane", "fields"), [("worker", "warm.python", {}), ("agent", "job.cpu", {"timeout": 40})]
)
async def test_an_attempt_is_handed_back_again_and_again(
    cluster: Cluster, role: str, lane: str, fields: dict[str, Any]
) -> None:
    """Where a command of the script was refused, the entry was gone from the lane and nowhere else."""
    await cluster.stack("dispatcher").dispatcher()
    by_hand = Lane(cluster.stack(role).cell, lane, "by-hand")
    async with cluster.caller() as client:
        await client.submit("pass", max_attempts=5, **fields)
        for attempt in (1, 2, 3, 4):
            (entry,) = await by_hand.read(1, 20_000)
            lease = await by_hand.claim(entry)
            assert lease is not None
            assert lease.attempt == attempt
            assert await by_hand.release(entry, lease.generation) == "requeued"

    assert await cluster.log() == []


async def _is_queued(client: Client, evaluation_id: str) -> bool:
    return (await client.state(evaluation_id)).get("state") == "queued"


async def test_admin_watches_cancels_and_caller_may_not_cancel(cluster: Cluster) -> None:
    await cluster.stack("dispatcher").dispatcher()
    looking = cluster.stack("doctor")
    await _worker(cluster, looking, "only")
    async with cluster.caller() as client:
        handle = await client.submit("print('on', flush=True); import time; time.sleep(30)", stream=True)
        await wait_until(lambda: _runs(client, handle.id), "it runs")
        with pytest.raises(NotAuthorized):
            await client.cancel(handle.id)
        async with Client(cluster.url("admin"), settings=load({})) as admin:
            assert (await anext(admin.stream(handle.id))).text == "on\n"
            assert await admin.cancel(handle.id) == ("cancelling", "only")
        result = await handle.wait(20)

    assert result.outcome == "cancelled"
    assert {line.split()[0] for line in await cluster.log()} == {"caller"}


async def test_admin_looks_after_dead_letters_and_nobody_else_does(cluster: Cluster) -> None:
    await cluster.stack("dispatcher", EXECUTOR_MAX_AGE="1").dispatcher()
    looking = cluster.stack("doctor")
    async with cluster.caller() as caller, Client(cluster.url("admin"), settings=load({})) as admin:
        old, _ = handles = await caller.submit_many([{"code": "print(1)", "id": "old"}, {"code": "pass"}])
        assert [(await handle.wait(20)).outcome for handle in handles] == ["lost", "lost"]
        (letter,) = await admin.dead_letters(id=old.id, reason="age")
        await _worker(cluster, looking, "only")
        assert (await admin.wait(await admin.redrive(letter), 20)).stdout == "1\n"
        assert await admin.purge(everything=True) == 1
        assert await cluster.log() == []
        with pytest.raises(NotAuthorized):
            await caller.dead_letters()
        with pytest.raises(NotAuthorized):
            await caller.redrive(letter)
        with pytest.raises(NotAuthorized):
            await caller.purge(everything=True)

    assert {line.split()[0] for line in await cluster.log()} == {"caller"}


async def test_a_worker_sets_aside_what_it_cannot_read(cluster: Cluster) -> None:
    await cluster.stack("dispatcher").dispatcher()
    looking = cluster.stack("doctor")
    async with cluster.caller() as caller, Client(cluster.url("admin"), settings=load({})) as admin:
        handle = await caller.submit("pass")
        await wait_until(lambda: _is_queued(caller, handle.id), "it waits")
        await cluster.call("boss", "HSET", f"executor:eval:default:{handle.id}", "payload", "\x00")
        await _worker(cluster, looking, "only")

        async def is_dead() -> bool:
            return [one.reason for one in await admin.dead_letters()] == ["corrupt"]

        await wait_until(is_dead, "it is a dead letter")
    assert await cluster.log() == []


async def test_scaler_counts_lanes_and_does_nothing_else(cluster: Cluster) -> None:
    lane = "executor:lane:warm.python"
    await cluster.call("boss", "XGROUP", "CREATE", lane, "workers", "0", "MKSTREAM")
    await cluster.call("boss", "XADD", lane, "*", "id", "a")

    assert await cluster.call("scaler", "PING") == b"PONG"
    assert b"redis_version" in await cluster.call("scaler", "INFO", "server")
    assert len(await cluster.call("scaler", "XINFO", "GROUPS", lane)) == 1
    assert await cluster.call("scaler", "XLEN", lane) == 1
    assert (await cluster.call("scaler", "XPENDING", lane, "workers"))[0] == 0
    for command in (
        ("GET", "executor:heartbeat:a"),
        ("XADD", lane, "*", "id", "b"),
        ("HGETALL", "executor:eval:default:a"),
        ("XRANGE", lane, "-", "+"),
        ("XLEN", "executor:requests"),
        ("XINFO", "STREAM", lane),
        ("KEYS", "*"),
        ("SCAN", 0),
        ("CONFIG", "GET", "dir"),
        ("EVAL", "return 1", 0),
        ("CLIENT", "LIST"),
    ):
        assert await cluster.denied("scaler", *command), command


@pytest.mark.parametrize(
    ("role", "command"),
    [
        ("caller", ("XADD", "executor:requests:other", "*", "code", "pass")),
        ("caller", ("XADD", "executor:lane:warm.python", "*", "id", "a")),
        ("caller", ("XRANGE", "executor:requests:other", "-", "+")),
        ("caller", ("HGETALL", "executor:eval:other:a")),
        ("caller", ("HSET", "executor:result:a", "outcome", "succeeded")),
        ("caller", ("EVAL", "return 1", 0)),
        ("worker", ("SET", "executor:elsewhere", "1")),
        ("worker", ("KEYS", "*")),
        ("worker", ("PUBLISH", "executor:control:a", "b")),
        ("dispatcher", ("FLUSHALL",)),
        ("dispatcher", ("SUBSCRIBE", "executor:control:a")),
        ("doctor", ("XADD", "executor:requests", "*", "code", "pass")),
        ("doctor", ("HSET", "executor:result:a", "outcome", "succeeded")),
        ("admin", ("FLUSHALL",)),
        ("admin", ("SHUTDOWN",)),
        ("admin", ("ACL", "LIST")),
        ("admin", ("CONFIG", "SET", "dir", "/")),
    ],
)
async def test_no_role_does_what_is_not_its_own(cluster: Cluster, role: str, command: tuple[str | int, ...]) -> None:
    assert await cluster.denied(role, *command)


async def test_nobody_is_let_in_without_a_password(cluster: Cluster) -> None:
    settings = load({})
    cell = Cell(cluster.url("caller").replace("caller:secret-caller@", ""), settings.server, settings.delivery)
    with pytest.raises(NotAuthorized):
        await cell.channel("test").call("PING")
    await cell.close()


async def _worker(cluster: Cluster, looking: Stack, name: str) -> subprocess.Popen[bytes]:
    stack = cluster.stack("worker", EXECUTOR_LEASE="0.5")
    process = await stack.worker(wait=False, EXECUTOR_ID=name)
    await wait_until(lambda: looking.registered(name), f"{name} is registered")
    return process


async def _runs(client: Client, evaluation_id: str) -> bool:
    return (await client.state(evaluation_id)).get("state") == "running"
