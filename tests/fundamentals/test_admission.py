"""Before a lane: room for so many, priorities, fair shares, not before a time, not after another."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from cli.embedded import EmbeddedServer
from dispatcher.policy import Policy, TenantPolicy
from executor import Outcome
from executor.client import Client
from executor.streams.waiting import Waiting
from tests.support.stack import Stack
from tests.support.wait import wait_until

LANE = "warm.python"


@pytest.fixture
async def narrow(server: EmbeddedServer) -> AsyncIterator[Stack]:
    """A lane that holds two entries, and a worker that would run one at a time."""
    variables = {"EXECUTOR_CREDIT": "2", "EXECUTOR_SLOTS": "1", "EXECUTOR_JANITOR_INTERVAL": "0.1"}
    running = Stack(server.url, f"t{secrets.token_hex(4)}", **variables)
    yield running
    await running.close()


async def counts(stack: Stack) -> tuple[int | None, int, int]:
    """Lag of the lane, what waits before it, and what may not begin yet."""
    return (await stack.upkeep.view(LANE)).lag, *await Waiting(stack.cell).count(LANE)


async def counted(stack: Stack, *expected: int) -> bool:
    return await counts(stack) == expected


async def ended(stack: Stack) -> list[str]:
    """Ids in the order of their results."""
    return [entry["id"] for entry in await stack.stream(stack.cell.keys.results())]


async def all_end(stack: Stack, ids: list[str]) -> list[str]:
    async def complete() -> bool:
        return len(await ended(stack)) >= len(ids)

    await wait_until(complete, "all have ended", 40)
    found = await ended(stack)
    assert Counter(found) == Counter(ids)
    return found


async def nothing_is_left(stack: Stack) -> bool:
    *line, _ = stack.cell.keys.line(LANE)  # quotas stay
    keys = [*line, stack.cell.keys.ages()]
    found: int = await stack.redis.call("EXISTS", *keys)
    return found == 0


async def test_a_lane_holds_its_credit_and_the_rest_waits(narrow: Stack) -> None:
    await narrow.dispatcher()
    ids = [handle.id for handle in await narrow.client.submit_many([{"code": "pass"}] * 7)]
    await wait_until(lambda: counted(narrow, 2, 5, 0), "two have room")

    await narrow.worker()

    assert await all_end(narrow, ids) == ids
    assert await counts(narrow) == (0, 0, 0)
    assert await nothing_is_left(narrow)


async def test_a_commit_lets_the_next_in(server: EmbeddedServer) -> None:
    """Without the janitor, whose next pass is an hour away."""
    variables = {"EXECUTOR_CREDIT": "2", "EXECUTOR_SLOTS": "1", "EXECUTOR_JANITOR_INTERVAL": "3600"}
    stack = Stack(server.url, f"t{secrets.token_hex(4)}", **variables)
    try:
        await stack.dispatcher()
        handles = await stack.client.submit_many([{"code": "pass"}] * 7)
        await wait_until(lambda: counted(stack, 2, 5, 0), "two have room")
        await stack.worker()
        await all_end(stack, [handle.id for handle in handles])
    finally:
        await stack.close()


async def test_priorities_go_first_and_none_starves(narrow: Stack) -> None:
    await narrow.dispatcher()
    first = await narrow.client.submit_many([{"code": "pass"}] * 2)
    await wait_until(lambda: counted(narrow, 2, 0, 0), "the lane is full")
    rows = [{"code": "pass", "priority": name} for name in ("low", "normal", "high") for _ in range(20)]
    waiting = await narrow.client.submit_many(rows)
    await wait_until(lambda: counted(narrow, 2, 60, 0), "the rest waits")
    priority = {handle.id: str(row["priority"]) for handle, row in zip(waiting, rows, strict=True)}

    await narrow.worker()

    order = [priority[one] for one in await all_end(narrow, [h.id for h in (*first, *waiting)]) if one in priority]
    assert Counter(order[:21]) == {"high": 16, "normal": 4, "low": 1}
    for name in ("high", "normal", "low"):
        own = [one for one in priority if priority[one] == name]
        assert [one for one in await ended(narrow) if one in own] == own


async def test_a_tenant_with_much_does_not_hold_up_one_with_little(narrow: Stack) -> None:
    tenants = {name: TenantPolicy(trusted=True) for name in ("default", "small")}
    await narrow.dispatcher(Policy(tenants=tenants))
    small = Client(narrow.environ["REDIS_URL"], tenant="small", settings=narrow.settings)
    try:
        much = await narrow.client.submit_many([{"code": "pass"}] * 30)
        await wait_until(lambda: counted(narrow, 2, 28, 0), "much waits")
        little = await small.submit_many([{"code": "pass"}] * 5)
        await wait_until(lambda: counted(narrow, 2, 33, 0), "little waits behind it")
        await narrow.worker()
        order = await all_end(narrow, [handle.id for handle in (*much, *little)])
    finally:
        await small.close()

    assert {handle.id for handle in little} <= set(order[: 2 + 2 * len(little)])


async def test_what_is_cancelled_before_the_lane_never_enters_it(narrow: Stack) -> None:
    await narrow.dispatcher()
    handles = await narrow.client.submit_many([{"code": "pass"}] * 4)
    await wait_until(lambda: counted(narrow, 2, 2, 0), "two wait")
    delayed = await narrow.client.submit("pass", not_before=time.time() + 3600)  # noqa: TID251 as a caller would
    await wait_until(lambda: counted(narrow, 2, 2, 1), "one may not begin")

    for handle in (handles[2], delayed):
        assert await handle.cancel() == ("cancelled", "")

    assert await counts(narrow) == (2, 1, 0)
    await narrow.worker()
    await all_end(narrow, [handle.id for handle in (*handles, delayed)])
    assert await nothing_is_left(narrow)


async def test_it_does_not_begin_before_its_time(narrow: Stack) -> None:
    await narrow.dispatcher()
    await narrow.worker()
    at = time.time() + 1.5  # noqa: TID251 as a caller would

    result = await narrow.client.run("import time; print(time.time())", not_before=at)

    assert float(result.stdout) >= at
    assert result.queued_ms < 1500  # what it was not to do before does not count as waiting


async def test_a_deadline_ends_what_waits(narrow: Stack) -> None:
    await narrow.dispatcher()
    handles = await narrow.client.submit_many([{"code": "pass", "deadline": time.time() + 0.5}] * 3)  # noqa: TID251
    results = [await handle.wait(20) for handle in handles]

    assert {(result.outcome, result.error) for result in results} == {
        ("timed_out", "its deadline passed before it ran")
    }
    await wait_until(lambda: counted(narrow, 0, 0, 0), "nothing waits")
    assert await nothing_is_left(narrow)


async def test_what_is_ended_before_the_lane_leaves_its_line(server: EmbeddedServer) -> None:
    """By hand, as the janitor does it: one that goes on would let it into the lane and pass over it there."""
    variables = {"EXECUTOR_CREDIT": "2", "EXECUTOR_JANITOR_INTERVAL": "3600"}
    stack = Stack(server.url, f"t{secrets.token_hex(4)}", **variables)
    waiting = Waiting(stack.cell)
    try:
        await stack.dispatcher()
        await stack.client.submit_many([{"code": "pass"}] * 2)
        await wait_until(lambda: counted(stack, 2, 0, 0), "the lane is full")
        late = await stack.client.submit("pass", deadline=1.0)
        await wait_until(lambda: counted(stack, 2, 1, 0), "one waits")

        ((known, is_late),) = await waiting.too_old(10)
        answer = await waiting.expire(known, Outcome.TIMED_OUT, "late")

        assert (known.to.id, is_late, answer) == (late.id, True, "ended")
        assert await counts(stack) == (2, 0, 0)
    finally:
        await stack.close()


async def test_a_deadline_ends_what_runs(narrow: Stack) -> None:
    await narrow.dispatcher()
    await narrow.worker()

    result = await narrow.client.run("import time; time.sleep(30)", deadline=time.time() + 1, timeout=20)  # noqa: TID251

    assert (result.outcome, result.error) == ("timed_out", "was not done by its deadline")
    assert result.duration_ms < 5000


async def test_a_dispatcher_that_died_leaves_nothing_waiting_for_ever(narrow: Stack) -> None:
    """Commits feed the lane; without any, whichever dispatcher lives does."""
    first = await narrow.dispatcher()
    handles = await narrow.client.submit_many([{"code": "pass"}] * 6)
    await wait_until(lambda: counted(narrow, 2, 4, 0), "four wait")
    first.stop()
    for handle in handles[:2]:
        await handle.cancel()  # their entries stay in the lane, and hold its room

    await narrow.dispatcher()

    await wait_until(lambda: counted(narrow, 2, 2, 0), "what has ended made room")
    await narrow.worker()
    await all_end(narrow, [handle.id for handle in handles])


async def test_order_holds_within_one_tenant_and_priority(narrow: Stack) -> None:
    await narrow.dispatcher()
    await narrow.worker()

    handles = await narrow.client.submit_many([{"code": "pass"}] * 100)
    results = [await handle.wait(30) for handle in handles]

    assert all(one.finished_at <= two.finished_at for one, two in pairwise(results))
