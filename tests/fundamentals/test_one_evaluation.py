"""One evaluation through all the hops of ARCHITECTURE.md, as its caller and as the server see it."""

from __future__ import annotations

from tests.support.stack import Stack
from tests.support.wait import wait_until


async def test_xadd_of_code_gives_a_readable_result(stack: Stack) -> None:
    """Any language can do it: XADD code, HGETALL the result under the entry's own id."""
    await stack.dispatcher()
    await stack.worker()

    entry_id = await stack.add(code="print(6*7)")

    result = await stack.result(entry_id)
    assert (result["outcome"], result["stdout"], result["exit_code"]) == ("succeeded", "42\n", "0")
    assert result["id"] == entry_id
    assert float(result["duration_ms"]) > 0
    assert int(result["max_rss"]) > 1_000_000


async def test_the_result_is_on_results_and_on_the_reply_stream(stack: Stack) -> None:
    """The same terminal result, once on each."""
    await stack.dispatcher()
    await stack.worker()
    reply = stack.cell.keys.reply("me")

    await stack.add(code="print('hi')", id="mine", reply_to=reply)

    await stack.result("mine")
    for key in (stack.cell.keys.results(), reply):
        entries = [entry for entry in await stack.stream(key) if entry["id"] == "mine"]
        assert [(entry["outcome"], entry["stdout"]) for entry in entries] == [("succeeded", "hi\n")]


async def test_an_evaluation_waits_at_zero_workers_as_lag(stack: Stack) -> None:
    """What KEDA sees: one undelivered entry, and exactly none once it is done."""
    await stack.dispatcher()
    await stack.add(code="pass", id="early")
    await wait_until(lambda: _lag(stack, 1), "lag is 1 before there is a worker")

    await stack.worker()

    assert (await stack.result("early"))["outcome"] == "succeeded"
    await wait_until(lambda: _lag(stack, 0), "lag is 0 again")


async def _lag(stack: Stack, count: int) -> bool:
    view = await stack.upkeep.view("warm.python")
    return view.lag == count and view.pending == 0


async def test_an_untrusted_tenant_gets_a_one_shot_worker(stack: Stack) -> None:
    """Not trusted: lane job.cpu; one worker claims one entry, runs it and is gone, consumer included."""
    from dispatcher.policy import Policy

    await stack.dispatcher(Policy())
    entry_id = await stack.add(code="print('alone')")
    await wait_until(lambda: _job_lag(stack), "the job lane has the entry")

    worker = await stack.worker(wait=False, MODE="one-shot")

    assert (await stack.result(entry_id))["stdout"] == "alone\n"
    await wait_until(lambda: worker.poll() is not None, "the worker has exited")
    assert worker.returncode == 0
    assert await stack.redis.call("XINFO", "CONSUMERS", stack.cell.keys.lane("job.cpu"), "workers") == []


async def _job_lag(stack: Stack) -> bool:
    return (await stack.upkeep.view("job.cpu")).lag == 1
