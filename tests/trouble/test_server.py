"""A server in trouble: work stops with a clear reason, goes on by itself, and every evaluation still ends once."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.embedded import EmbeddedServer
from executor import Client, Outcome
from executor.errors import ServerUnavailable
from executor.streams.server import Cell
from tests.support.servers import server_program
from tests.support.stack import Stack
from tests.support.wait import wait_until


@pytest.fixture
async def troubled(own_server: EmbeddedServer) -> AsyncIterator[Stack]:
    """A stack on a server of the test's own."""
    running = Stack(own_server.url, "t", EXECUTOR_LEASE="1", EXECUTOR_SLOTS="1")
    yield running
    await running.close()


def gated(path: Path) -> str:
    """A program that ends when a file is there."""
    return f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)\nprint('done')"


async def running(stack: Stack, evaluation_id: str) -> None:
    """Wait until an evaluation runs."""

    async def runs() -> bool:
        return (await stack.client.state(evaluation_id)).get("state") == "running"

    await wait_until(runs, f"{evaluation_id} runs")


async def page(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer


async def health_port(stack: Stack, worker: str = "worker-0") -> int:
    """Where a worker's pages are; from the registry, once it is known there."""
    found: list[int] = []

    async def known() -> bool:
        flat = await stack.redis.call("HGET", stack.cell.keys.executors(), worker)
        url = json.loads(flat)["url"] if flat else ""
        found.append(int(url.rpartition(":")[2] or 0) if url else 0)
        return found[-1] > 0

    await wait_until(known, "the worker's address is in the registry")
    return found[-1]


async def says(port: int, words: str) -> None:
    """Wait until /readyz holds some words."""

    async def said() -> bool:
        return words in await page(port, "/readyz")

    await wait_until(said, f"/readyz says {words!r}")


async def all_end_once(stack: Stack, ids: list[str]) -> None:
    """Wait until every id has a result; then there is exactly one of each."""

    async def counted() -> Counter[str]:
        return Counter(entry["id"] for entry in await stack.stream(stack.cell.keys.results()))

    async def complete() -> bool:
        try:
            return set(await counted()) >= set(ids)
        except ServerUnavailable:
            return False

    await wait_until(complete, "every id has a result", 40)
    assert await counted() == Counter(ids)


async def some_ended(stack: Stack, count: int) -> None:
    async def enough() -> bool:
        try:
            return bool(await stack.redis.call("XLEN", stack.cell.keys.results()) >= count)
        except ServerUnavailable:  # this connection is from before the restart
            return False

    await wait_until(enough, f"{count} have ended")


async def submit_batch(stack: Stack, count: int = 40) -> list[str]:
    requests = [{"code": f"import time; time.sleep(0.02); print({number})"} for number in range(count)]
    return [handle.id for handle in await stack.client.submit_many(requests)]


async def log_of(stack: Stack, process: subprocess.Popen[bytes]) -> list[dict[str, str]]:
    """End a worker and read its log."""
    process.terminate()
    _, text = await asyncio.to_thread(process.communicate)
    stack.workers.remove(process)
    return [json.loads(line) for line in text.splitlines()]


async def test_programs_started_before_their_server_carry_on_by_themselves(
    own_server: EmbeddedServer, troubled: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    own_server.kill()
    worker = await troubled.worker(wait=False)
    starting = asyncio.create_task(troubled.dispatcher())
    assert worker.stderr is not None
    first = json.loads(await asyncio.to_thread(worker.stderr.readline))
    await wait_until(lambda: "the server cannot be used" in caplog.text, "the dispatcher has tried")
    assert first["message"] == "the server cannot be used; trying until it can"

    own_server.restart()

    await starting
    assert (await troubled.client.run("print(1)", wait_timeout=20)).stdout == "1\n"


async def test_a_server_killed_in_the_middle_of_a_batch_costs_no_result(tmp_path: Path) -> None:
    server = EmbeddedServer(data=tmp_path, program=server_program())
    stack = Stack(server.url, "t", EXECUTOR_LEASE="1", EXECUTOR_SLOTS="2")
    try:
        await stack.dispatcher()
        await stack.worker()
        ids = await submit_batch(stack, 60)
        for count in (10, 30):
            await some_ended(stack, count)
            server.kill()
            server.restart()
        await all_end_once(stack, ids)
    finally:
        await stack.close()
        server.close()


async def test_forgotten_scripts_are_sent_again(troubled: Stack) -> None:
    await troubled.dispatcher()
    await troubled.worker()
    ids = await submit_batch(troubled)
    for count in (5, 15, 25):
        await some_ended(troubled, count)
        await troubled.redis.call("SCRIPT", "FLUSH")

    await all_end_once(troubled, ids)


async def test_a_changed_password_is_named_and_healed(own_server: EmbeddedServer, troubled: Stack) -> None:
    await troubled.dispatcher()
    worker = await troubled.worker()
    port = await health_port(troubled)
    await troubled.redis.call("ACL", "SETUSER", "boss", "on", ">boss", "~*", "&*", "+@all")
    password = own_server.url.partition("//:")[2].partition("@")[0]
    boss = Cell(
        own_server.url.replace(f":{password}@", "boss:boss@"), troubled.settings.server, troubled.settings.delivery
    )
    commands = boss.channel("boss")

    await commands.call("CONFIG", "SET", "requirepass", "another")
    await commands.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await says(port, "set REDIS_URL with a user that may do this")
    await commands.call("CONFIG", "SET", "requirepass", password)

    assert (await troubled.client.run("print(1)", wait_timeout=20)).stdout == "1\n"
    await boss.close()
    reasons = [line.get("reason", "") for line in await log_of(troubled, worker)]
    assert any("WRONGPASS" in reason or "invalid username-password" in reason for reason in reasons)


async def test_a_read_only_replica_is_named_and_healed(troubled: Stack) -> None:
    await troubled.dispatcher()
    await troubled.worker()
    port = await health_port(troubled)

    await troubled.redis.call("REPLICAOF", "127.0.0.1", "1")
    await says(port, "point REDIS_URL at the primary")
    with pytest.raises(ServerUnavailable, match="read-only replica"):
        await troubled.client.submit("pass")
    connection = await troubled.redis.call("CLIENT", "ID")
    with pytest.raises(ServerUnavailable, match="read-only replica"):
        await troubled.redis.call("DEL", "key")
    assert await troubled.redis.call("CLIENT", "ID") != connection  # its name may stand for another server by now
    await troubled.redis.call("REPLICAOF", "NO", "ONE")

    assert (await troubled.client.run("print(1)", wait_timeout=20)).stdout == "1\n"


async def test_a_full_server_refuses_new_work_and_takes_results(troubled: Stack, tmp_path: Path) -> None:
    await troubled.dispatcher()
    await troubled.worker()
    handle = await troubled.client.submit(gated(tmp_path / "go"))
    await running(troubled, handle.id)

    await troubled.redis.call("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(ServerUnavailable, match="the server is full"):
        await troubled.client.submit("pass")
    (tmp_path / "go").touch()
    assert (await handle.wait(20)).outcome is Outcome.SUCCEEDED
    await troubled.redis.call("CONFIG", "SET", "maxmemory", "0")

    assert (await troubled.client.run("print(1)", wait_timeout=20)).stdout == "1\n"


async def test_a_foreign_results_key_holds_the_commit_back_until_it_is_gone(troubled: Stack) -> None:
    await troubled.dispatcher()
    await troubled.worker()
    port = await health_port(troubled)
    await troubled.redis.call("SET", troubled.cell.keys.results(), "foreign", "PX", 600_000)

    handle = await troubled.client.submit("print(1)")
    await says(port, "a key holds another type than ours")
    assert await troubled.client.result(handle.id) is None
    await troubled.redis.call("DEL", troubled.cell.keys.results())

    assert (await handle.wait(20)).stdout == "1\n"
    await all_end_once(troubled, [handle.id])


async def test_a_lost_group_is_made_again_while_the_worker_waits(troubled: Stack) -> None:
    await troubled.dispatcher()
    await troubled.worker()
    await troubled.client.run("pass")

    await troubled.redis.call("XGROUP", "DESTROY", troubled.cell.keys.lane("warm.python"), "workers")

    assert (await troubled.client.run("print(1)", wait_timeout=20)).stdout == "1\n"


async def test_a_lost_group_is_made_again_while_the_only_slot_is_busy(troubled: Stack, tmp_path: Path) -> None:
    await troubled.dispatcher()
    await troubled.worker()
    handle = await troubled.client.submit(gated(tmp_path / "go"))
    await running(troubled, handle.id)
    after = await troubled.client.submit("print('after')")

    await troubled.redis.call("XGROUP", "DESTROY", troubled.cell.keys.lane("warm.python"), "workers")
    (tmp_path / "go").touch()

    assert (await handle.wait(20)).stdout == "done\n"
    assert (await after.wait(20)).stdout == "after\n"
    await all_end_once(troubled, [handle.id, after.id])


async def test_an_evaluation_whose_lease_went_with_its_group_runs_again(troubled: Stack, tmp_path: Path) -> None:
    """The worker must stop it when it hears that the lease is gone; that is no result of the evaluation."""
    await troubled.dispatcher()
    await troubled.worker()
    handle = await troubled.client.submit(gated(tmp_path / "go"))
    await running(troubled, handle.id)
    lane = troubled.cell.keys.lane("warm.python")

    await troubled.redis.call("XGROUP", "DESTROY", lane, "workers")
    await troubled.redis.call("XGROUP", "CREATE", lane, "workers", "0")

    async def second() -> bool:
        return (await troubled.client.state(handle.id)).get("attempt") == "2"

    await wait_until(second, "it runs again")
    (tmp_path / "go").touch()
    result = await handle.wait(20)
    assert (result.outcome, result.stdout, result.attempt) == (Outcome.SUCCEEDED, "done\n", 2)
    await all_end_once(troubled, [handle.id])


async def test_submitting_without_a_server_says_so(own_server: EmbeddedServer) -> None:
    own_server.kill()
    async with Client(own_server.url) as client:
        with pytest.raises(ServerUnavailable, match="the server cannot answer"):
            await client.submit("pass")
