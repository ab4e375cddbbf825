"""Real programs beside a key that holds something else: what needs it waits, all else goes on, it heals."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor.errors import WrongKeyType
from tests.support.parts import LANE
from tests.support.stack import Stack
from tests.support.wait import wait_until

MOST_COMMANDS = 1500
"""In a second, of programs with nothing to do but their passes and a trouble: a spin makes tens of thousands."""


@pytest.fixture
async def quick(stack: Stack) -> AsyncIterator[Stack]:
    """Short leases, frequent passes, one slot."""
    variables = {"EXECUTOR_LEASE": "1", "EXECUTOR_JANITOR_INTERVAL": "0.2", "EXECUTOR_SLOTS": "1"}
    running = Stack(stack.cell.url, stack.cell.keys.prefix, **variables)
    yield running
    await running.close()


def keys_of(stack: Stack) -> dict[str, str]:
    """Keys by what they are to the evaluation `x`."""
    keys = stack.cell.keys
    _, normal, _, order, later, waiting, usage, quotas = keys.line(LANE)
    return {
        "record": keys.record("default", "x"), "result": keys.result("default", "x"), "reply": keys.reply("me"),
        "output": keys.output("default", "x"), "results": keys.results(), "ages": keys.ages(), "lane": keys.lane(LANE),
        "dead": keys.dead(), "normal": normal, "order": order, "later": later, "waiting": waiting, "usage": usage,
        "quotas": quotas, "executors": keys.executors(), "heartbeat": keys.heartbeat("worker-0"),
    }  # fmt: skip


FOR_ALL = ("results", "ages", "usage", "quotas")
"""Nothing is admitted, or ended, while one of these holds something else."""
OF_THE_LANE = ("lane", "normal", "order", "later", "waiting")
OF_ONE = ("record", "result", "reply", "output", "dead", "executors", "heartbeat")


async def place(stack: Stack, key: str) -> None:
    await stack.redis.call("DEL", key)
    await stack.redis.call("SET", key, "foreign", "PX", 600_000)


async def commands(stack: Stack) -> int:
    """How many the server has carried out, those within scripts too."""
    text = (await stack.redis.call("INFO", "commandstats")).decode()
    return sum(int(calls) for calls in re.findall(r"calls=(\d+)", text))


async def does_not_spin(stack: Stack) -> None:
    before = await commands(stack)
    await asyncio.sleep(1.0)  # a rate needs a stretch of time
    assert await commands(stack) - before < MOST_COMMANDS


async def log_of(stack: Stack, worker: subprocess.Popen[bytes]) -> str:
    """End the worker and read what it said."""
    worker.terminate()
    _, text = await asyncio.to_thread(worker.communicate)
    stack.workers.remove(worker)
    return text.decode()


async def ends(stack: Stack, evaluation_id: str) -> int:
    results = Counter(entry["id"] for entry in await stack.stream(stack.cell.keys.results()))
    return results[evaluation_id]


async def has_ended(stack: Stack, evaluation_id: str) -> bool:
    try:
        return await ends(stack, evaluation_id) > 0
    except WrongKeyType:
        return False


def gated(path: Path) -> str:
    return f"import os, time\nprint('begun', flush=True)\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)"


@pytest.mark.parametrize("name", [*OF_ONE, *OF_THE_LANE, *FOR_ALL])
async def test_a_key_that_changes_under_a_running_evaluation(
    quick: Stack, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await quick.dispatcher()
    worker = await quick.worker()
    key = keys_of(quick)[name]
    reply_to = quick.cell.keys.reply("me")
    await quick.client.submit(gated(tmp_path / "go"), id="x", reply_to=reply_to, stream=True)
    await wait_until(lambda: quick.has_state("x", "running"), "it runs")
    await place(quick, key)

    (tmp_path / "go").touch()
    await quick.add(code="pass", id="warm")
    await quick.add(code="pass", id="other", timeout="40")

    if name not in FOR_ALL:
        await wait_until(lambda: quick.has_state("other", "queued"), "another lane is served")
    if name in OF_ONE:
        await wait_until(lambda: has_ended(quick, "warm"), "what has nothing to do with it goes on")
    await does_not_spin(quick)
    if name != "record":
        await quick.redis.call("DEL", key)

    for one in ("x", "warm"):
        await wait_until(lambda one=one: has_ended(quick, one), f"{one} has ended")  # type: ignore[misc]
    await wait_until(lambda: quick.has_state("other", "queued"), "the other waits for a Job")
    assert [await ends(quick, one) for one in ("x", "warm")] == [1, 1]
    assert (await quick.client.run("print(1)", wait_timeout=20)).stdout == "1\n"
    said = caplog.text + "".join(str(vars(record)) for record in caplog.records) + await log_of(quick, worker)
    if name in (*OF_THE_LANE, *FOR_ALL):
        assert key in said or "WRONGTYPE" in said
    if name == "executors":
        await quick.redis.call("DEL", key)


async def test_programs_start_beside_keys_that_hold_something_else(quick: Stack) -> None:
    """A lane and an ingress stream of another type: the other lanes and tenants are served, and these once they can."""
    from dispatcher.policy import Policy, TenantPolicy

    acme, lane = quick.cell.keys.requests("acme"), quick.cell.keys.lane(LANE)
    await place(quick, acme)
    await place(quick, lane)
    await place(quick, quick.cell.keys.lane("strange"))
    rules = TenantPolicy(trusted=True)
    await quick.dispatcher(Policy(tenants={"default": rules, "acme": rules}))
    await quick.add(code="pass", id="held")
    await quick.add(code="pass", id="other", timeout="40")
    await wait_until(lambda: quick.has_state("other", "queued"), "the other lane is served")
    assert not await quick.client.state("held")
    await does_not_spin(quick)

    await quick.redis.call("DEL", acme, lane)
    await quick.add(acme, code="print('theirs')", id="theirs")
    await quick.worker()

    assert (await quick.result("held"))["outcome"] == "succeeded"
    assert (await quick.result("theirs", "acme"))["stdout"] == "theirs\n"
    assert await quick.redis.call("GET", quick.cell.keys.lane("strange")) == b"foreign"
    await quick.redis.call("DEL", quick.cell.keys.lane("strange"))


async def test_a_result_that_has_no_place_is_told_whole(quick: Stack) -> None:
    """Under its name lies something else; it is longer than what a reply usually bears."""
    await quick.dispatcher()
    key = quick.cell.keys.result("default", "x")
    await place(quick, key)
    await quick.worker()

    result = await quick.client.run("print('x' * 200_000)", id="x", wait_timeout=20)

    assert len(result.stdout) == 200_001
    (letter,) = await quick.client.dead_letters(id="x")
    assert (letter.reason, letter.error) == ("unanswerable", f"{key} holds a string instead of a hash")
    assert await quick.redis.call("GET", key) == b"foreign"


async def test_a_client_whose_reply_stream_holds_something_else_is_answered(quick: Stack) -> None:
    await quick.dispatcher()
    await quick.worker()
    handle = await quick.client.submit("print(1)")
    await handle.wait(20)
    second = await quick.client.submit("import time; time.sleep(0.3); print(2)")
    reply: str = quick.client._replies.key
    await place(quick, reply)

    assert (await second.wait(20)).stdout == "2\n"
