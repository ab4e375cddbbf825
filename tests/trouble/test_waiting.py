"""What waits and should not any more: too old, or ended while it waited. Nobody is woken for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from cli.embedded import EmbeddedServer
from dispatcher.surroundings import Surroundings
from tests.support.stack import Stack
from tests.support.wait import wait_until

LANE = "warm.python"


@pytest.fixture
async def aging(server: EmbeddedServer) -> AsyncIterator[Stack]:
    """Evaluations that may take a second from admission to result."""
    variables = {"EXECUTOR_MAX_AGE": "1", "EXECUTOR_JANITOR_INTERVAL": "0.1"}
    running = Stack(server.url, f"t{secrets.token_hex(4)}", **variables)
    yield running
    await running.close()


async def lag_is(stack: Stack, lag: int) -> bool:
    return (await stack.upkeep.view(LANE)).lag == lag


async def none_ages(stack: Stack) -> bool:
    found: int = await stack.redis.call("EXISTS", stack.cell.keys.ages())
    return found == 0


async def test_what_no_worker_takes_in_time_is_lost_and_says_why(aging: Stack) -> None:
    await aging.dispatcher(surroundings=Surroundings(why_idle=lambda lane: f"no node fits {lane}"))
    reply_to = aging.cell.keys.reply("caller")

    evaluation_id = await aging.add(code="pass", reply_to=reply_to)

    result = await aging.result(evaluation_id)
    assert (result["outcome"], result["attempt"]) == ("lost", "0")
    assert result["error"] == f"no worker of lane {LANE} took it within 1 s of its admission; no node fits {LANE}"
    assert [entry["outcome"] for entry in await aging.stream(reply_to)] == ["lost"]
    await wait_until(lambda: lag_is(aging, 0), "its entry is passed over")
    assert await none_ages(aging)


async def test_what_runs_is_not_ended_by_its_age(aging: Stack) -> None:
    await aging.dispatcher()
    await aging.worker()

    result = await aging.client.run("import time; time.sleep(2.5); print(1)")

    assert (result.outcome, result.stdout) == ("succeeded", "1\n")
    assert await none_ages(aging)


async def test_what_has_ended_does_not_age(stack: Stack) -> None:
    await stack.dispatcher()
    waiting = await stack.client.submit("pass")
    await wait_until(lambda: stack.has_state(waiting.id, "queued"), "it waits")
    assert not await none_ages(stack)

    await waiting.cancel()
    assert await none_ages(stack)

    await stack.worker()
    await stack.client.run("pass")
    assert await none_ages(stack)


async def test_cancelled_entries_at_the_front_of_a_lane_wake_nobody(stack: Stack) -> None:
    await stack.dispatcher()
    first, second, third = await stack.client.submit_many([{"code": "pass"}] * 3)
    for handle in (first, second):
        assert await handle.cancel() == ("cancelled", "")

    await wait_until(lambda: lag_is(stack, 1), "only the third is demand")
    view = await stack.upkeep.view(LANE)
    assert (view.lag, view.pending) == (1, 0)
    assert await stack.redis.call("XINFO", "CONSUMERS", stack.cell.keys.lane(LANE), "workers") == []

    await stack.worker()
    assert (await third.wait(20)).outcome == "succeeded"


async def test_a_cancelled_entry_behind_one_that_waits_keeps_its_place(stack: Stack) -> None:
    await stack.dispatcher()
    first, second = await stack.client.submit_many([{"code": "print(1)"}] * 2)
    assert await second.cancel() == ("cancelled", "")

    await stack.worker()

    assert (await first.wait(20)).stdout == "1\n"
    await wait_until(lambda: lag_is(stack, 0), "the claim passes the second over")


async def test_a_lane_whose_group_is_gone_gets_it_again_and_counts_right(stack: Stack) -> None:
    """Without a group KEDA sees no lag and wakes nobody, so no worker would come to make it."""
    await stack.dispatcher()
    worker = await stack.worker()
    await asyncio.gather(*(stack.client.run("pass") for _ in range(5)))
    worker.terminate()
    await wait_until(lambda: stack.gone("worker-0"), "the worker has gone")
    await wait_until(lambda: length_is(stack, 1), "the lane is trimmed")

    await stack.redis.call("XGROUP", "DESTROY", stack.cell.keys.lane(LANE), "workers")
    waiting = await stack.client.submit("print(1)")

    await wait_until(lambda: lag_is(stack, 1), "the lane has its group, and one entry waits")
    await stack.worker()
    assert (await waiting.wait(20)).stdout == "1\n"


async def length_is(stack: Stack, length: int) -> bool:
    found: int = await stack.redis.call("XLEN", stack.cell.keys.lane(LANE))
    return found == length
