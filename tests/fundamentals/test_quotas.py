"""What a tenant may have at once: in lanes, a second, and open; what is beyond waits, and holds nobody up."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.batch import Batch, read_rows
from cli.embedded import EmbeddedServer
from dispatcher.policy import Policy, TenantPolicy, load_policy
from executor.client import Client, Handle
from executor.errors import BacklogFull, Misconfigured
from executor.streams import caller
from executor.streams.channel import pairs
from executor.streams.quotas import Quota, Quotas
from executor.streams.waiting import Waiting
from tests.support.stack import Stack
from tests.support.wait import wait_until

LANE = "warm.python"


@pytest.fixture
async def roomy(server: EmbeddedServer) -> AsyncIterator[Stack]:
    """A lane with room for all, so that only quotas hold anything back."""
    variables = {"EXECUTOR_SLOTS": "4", "EXECUTOR_JANITOR_INTERVAL": "0.1"}
    running = Stack(server.url, f"t{secrets.token_hex(4)}", **variables)
    yield running
    await running.close()


def policy(**limits: object) -> Policy:
    """Tenant `default` with these limits, and `other` without any."""
    tenants = {"default": TenantPolicy.model_validate({"trusted": True, **limits})}
    return Policy(tenants=tenants | {"other": TenantPolicy(trusted=True)})


async def counts(stack: Stack) -> tuple[int | None, int, int]:
    """Lag and pending of the lane together, what waits before it, and what waits for its time."""
    view = await stack.upkeep.view(LANE)
    return (None if view.lag is None else view.lag + view.pending), *await Waiting(stack.cell).count(LANE)


async def counted(stack: Stack, *expected: int) -> bool:
    return await counts(stack) == expected


async def all_succeed(handles: list[Handle]) -> None:
    for handle in handles:
        assert (await handle.wait(30)).outcome == "succeeded"


def gated(path: Path) -> str:
    """A program that ends once a file is there."""
    return f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)"


async def test_no_more_of_a_tenant_are_in_lanes_than_it_may_have(roomy: Stack, tmp_path: Path) -> None:
    """KEDA sees two, so it wakes workers for two."""
    await roomy.dispatcher(policy(concurrency=2))
    await roomy.worker()
    gate = tmp_path / "gate"
    handles = await roomy.client.submit_many([{"code": gated(gate)}] * 6)
    await wait_until(lambda: counted(roomy, 2, 4, 0), "two are in, four wait")

    gate.touch()

    await all_succeed(handles)
    assert await counts(roomy) == (0, 0, 0)


async def test_who_is_at_its_quota_holds_nobody_up(roomy: Stack, tmp_path: Path) -> None:
    await roomy.dispatcher(policy(concurrency=1))
    await roomy.worker()
    gate = tmp_path / "gate"
    handles = await roomy.client.submit_many([{"code": gated(gate), "priority": "high"}] * 5)
    await wait_until(lambda: counted(roomy, 1, 4, 0), "one is in, four wait")
    other = Client(roomy.environ["REDIS_URL"], tenant="other", settings=roomy.settings)
    try:
        await all_succeed(await other.submit_many([{"code": "pass", "priority": "low"}] * 20))
    finally:
        await other.close()

    assert await counts(roomy) == (1, 4, 0)
    gate.touch()
    await all_succeed(handles)


async def test_a_quota_counts_over_all_lanes(roomy: Stack, tmp_path: Path) -> None:
    """What one lane's end leaves free, the other lane is given by the janitor."""
    await roomy.dispatcher(policy(concurrency=1, classes=["cpu", "gpu"]))
    await roomy.worker()
    gate = tmp_path / "gate"
    first = await roomy.client.submit(gated(gate))
    await wait_until(lambda: counted(roomy, 1, 0, 0), "the first is in")
    second = await roomy.client.submit("pass", **{"class": "gpu"})
    waiting = Waiting(roomy.cell)

    async def waits() -> bool:
        return await waiting.count("job.gpu") == (1, 0)

    await wait_until(waits, "the second waits")
    gate.touch()
    await first.wait(20)

    await roomy.worker(wait=False, MODE="one-shot", EXECUTOR_LANE="job.gpu", EXECUTOR_CLAIM_TIMEOUT="10")
    await all_succeed([second])


async def test_what_is_cancelled_in_a_lane_frees_its_place(roomy: Stack) -> None:
    await roomy.dispatcher(policy(concurrency=1))
    first, second = await roomy.client.submit_many([{"code": "pass"}] * 2)
    await wait_until(lambda: counted(roomy, 1, 1, 0), "one is in, one waits")

    assert await first.cancel() == ("cancelled", "")
    await wait_until(lambda: counted(roomy, 1, 0, 0), "the other has its place")
    await roomy.worker()
    await all_succeed([second])


async def test_a_rate_spreads_what_comes_at_once(roomy: Stack) -> None:
    await roomy.dispatcher(policy(rate=10.0, burst=3))
    await roomy.worker()
    handles = await roomy.client.submit_many([{"code": "pass"}] * 8)
    results = [await handle.wait(30) for handle in handles]

    first, *rest = sorted(result.finished_at for result in results)
    assert rest[-1] - first >= 400  # five after the burst, each 100 ms after the one before
    assert rest[1] - first < 400


async def test_a_full_backlog_leaves_requests_where_they_were_added(roomy: Stack) -> None:
    """A plain XADD is never refused, and nothing of it is lost."""
    await roomy.dispatcher(policy(backlog=3))
    ids = [await roomy.add(code="pass") for _ in range(10)]
    ingress = roomy.cell.keys.requests()

    async def unread() -> object:
        (group,) = await roomy.redis.call("XINFO", "GROUPS", ingress)
        facts: dict[bytes, object] = pairs(group)
        return facts[b"lag"]

    async def six_are_left() -> bool:
        return await unread() in (6, 7)  # the read that waits may take one more

    await wait_until(six_are_left, "the rest is not read")
    other = await roomy.add(stream=roomy.cell.keys.requests("other"), code="print('other')")

    await roomy.worker()

    assert (await roomy.result(other, "other"))["stdout"] == "other\n"
    for one in ids:
        assert (await roomy.result(one))["outcome"] == "succeeded"


async def test_a_client_is_refused_while_the_backlog_is_full(roomy: Stack) -> None:
    await roomy.dispatcher(policy(backlog=5))
    handles = await roomy.client.submit_many([{"code": "pass"}] * 5)

    with pytest.raises(BacklogFull, match=r"tenant default has 5 evaluations open, and may have 5") as refused:
        await roomy.client.submit("pass")

    assert (refused.value.outstanding, refused.value.backlog, refused.value.accepted) == (5, 5, ())
    await wait_until(lambda: roomy.has_state(handles[0].id, "queued"), "the first is admitted")
    known = await roomy.client.submit("pass", id=handles[0].id)  # needs no room
    assert known.id == handles[0].id
    await roomy.worker()
    await all_succeed(handles)
    await all_succeed([await roomy.client.submit("pass")])


async def test_a_refused_call_says_what_was_taken_before(roomy: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_AT_ONCE", 2)
    await Quotas(roomy.cell).publish({"default": Quota(backlog=3)})  # no dispatcher yet: everything is outstanding
    names = [f"n{number}" for number in range(6)]

    with pytest.raises(BacklogFull) as refused:
        await roomy.client.submit_many([{"code": "pass", "id": name} for name in names])

    assert refused.value.accepted == tuple(names[:4])
    await roomy.dispatcher(policy())
    await roomy.worker()
    for name in names[:4]:
        assert (await roomy.client.wait(name, 20)).outcome == "succeeded"
    assert await roomy.client.state("n4") == {}


async def test_a_batch_larger_than_the_backlog_waits_for_room(roomy: Stack, tmp_path: Path) -> None:
    await roomy.dispatcher(policy(backlog=50))
    await roomy.worker()
    path = tmp_path / "batch.jsonl"
    path.write_text('{"code": "pass", "expect": "succeeded"}\n' * 450)
    batch = Batch(read_rows(path))

    await batch.run(roomy.client, lambda result: None)

    assert batch.report()["outcomes"] == {"succeeded": 450}


async def test_marks_of_usage_that_nothing_is_behind_are_swept(roomy: Stack) -> None:
    """A worker from before there were quotas ends evaluations and leaves them; a record may be deleted."""
    await roomy.dispatcher(policy())
    ended, deleted, waiting = [handle.id for handle in await roomy.client.submit_many([{"code": "pass"}] * 3)]
    await wait_until(lambda: counted(roomy, 3, 0, 0), "all are in the lane")
    await roomy.redis.call("HSET", roomy.cell.keys.record("default", ended), "state", "done")
    await roomy.redis.call("DEL", roomy.cell.keys.record("default", deleted))
    quotas = Quotas(roomy.cell)

    for _ in range(4):
        await quotas.sweep(2)

    marks = await roomy.redis.call("ZRANGE", roomy.cell.keys.usage(), 0, -1)
    assert [mark.decode() for mark in marks] == [f"lane/default/{waiting}", f"open/default/{waiting}"]


async def test_a_policy_that_names_a_burst_alone_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("tenants: {default: {burst: 5}}\n")

    with pytest.raises(Misconfigured, match=r"tenants\.default: .*burst: has no meaning without rate"):
        load_policy(str(path))
