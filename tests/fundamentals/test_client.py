"""The Python client: run, submit, wait, stream, cancel; many waits on one connection."""

from __future__ import annotations

import asyncio
import time

import pytest

from executor import InvalidField, Outcome
from executor.sync import Client as SyncClient
from tests.support.stack import Stack
from tests.support.wait import wait_until


async def test_run_returns_the_result(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()

    result = await stack.client.run("import sys; print(sys.stdin.read(), sys.argv[1:])", stdin="in", args=["a"])

    assert result.outcome is Outcome.SUCCEEDED
    assert result.stdout == "in ['a']\n"


async def test_a_thousand_waits_share_one_reader(stack: Stack) -> None:
    """Results come back to the handle they belong to, whatever their order."""
    await stack.dispatcher()
    await stack.worker()

    handles = await stack.client.submit_many([{"code": f"print({number})"} for number in range(300)])
    results = await asyncio.gather(*(handle.wait() for handle in handles))

    assert [result.stdout for result in results] == [f"{number}\n" for number in range(300)]
    clients = (await stack.redis.call("CLIENT", "LIST")).decode()
    assert clients.count("name=executor-caller-reader") >= 1


async def test_stream_shows_output_before_the_end(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()
    code = "print('first')\nimport sys\nwhile not __import__('os').path.exists('go'): pass"

    handle = await stack.client.submit(code, stream=True, timeout=10)
    chunks = handle.stream()
    first = await anext(chunks)
    assert (first.stream, first.text, first.attempt) == ("stdout", "first\n", 1)
    await handle.cancel()
    rest = [chunk async for chunk in chunks]

    assert rest == []
    assert (await handle.wait()).outcome is Outcome.CANCELLED


async def test_a_stream_is_resumed_from_its_cursor(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()
    handle = await stack.client.submit(
        "import time\nfor i in range(3):\n    print(i)\n    time.sleep(0.05)", stream=True
    )
    chunks = [chunk async for chunk in handle.stream()]

    again = [chunk async for chunk in handle.stream(chunks[0].cursor)]

    assert "".join(chunk.text for chunk in chunks) == "0\n1\n2\n"
    assert again == chunks[1:]


async def test_large_results_arrive_whole(stack: Stack) -> None:
    """A reply leaves long values out; the client fetches them."""
    await stack.dispatcher()
    await stack.worker()

    result = await stack.client.run("print('x' * 300_000)")

    assert len(result.stdout) == 300_001


async def test_cancel_before_it_runs(stack: Stack) -> None:
    await stack.dispatcher()
    handle = await stack.client.submit("pass")
    await wait_until(lambda: _is(stack, handle.id, "queued"), "it is queued")

    assert await handle.cancel() == ("cancelled", "")
    assert (await handle.wait()).outcome is Outcome.CANCELLED
    assert await handle.cancel() == ("done", "cancelled")


async def _is(stack: Stack, evaluation_id: str, state: str) -> bool:
    return (await stack.client.state(evaluation_id)).get("state") == state


async def test_cancel_while_it_runs_ends_the_child(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()
    handle = await stack.client.submit("while True: pass", timeout=20)
    await wait_until(lambda: _is(stack, handle.id, "running"), "it runs")

    assert (await handle.cancel())[0] == "cancelling"
    assert (await handle.wait()).outcome is Outcome.CANCELLED


async def test_cancel_of_an_unknown_id_says_so(stack: Stack) -> None:
    assert await stack.client.cancel("nobody") == ("unknown", "")


async def test_a_bad_field_is_refused_before_anything_is_sent(stack: Stack) -> None:
    with pytest.raises(InvalidField, match="timeout"):
        await stack.client.submit("pass", timeout=-1)
    assert await stack.redis.call("EXISTS", stack.cell.keys.requests()) == 0


async def test_the_blocking_face_does_the_same(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()

    def use() -> tuple[str, list[str]]:
        with SyncClient(stack.cell.url, settings=stack.settings) as client:
            handle = client.submit("print('live')", stream=True)
            return client.run("print(1)").stdout, [chunk.text for chunk in handle.stream()]

    assert await asyncio.to_thread(use) == ("1\n", ["live\n"])


async def test_a_cancel_right_behind_the_request_is_answered_to_the_caller(stack: Stack) -> None:
    await stack.dispatcher()

    for _ in range(50):
        reply_to = stack.cell.keys.reply("caller")
        handle = await stack.client.submit("pass", reply_to=reply_to)
        assert await handle.cancel() == ("cancelled", "")
        replies = [(entry["id"], entry["outcome"]) for entry in await stack.stream(reply_to)]
        assert (handle.id, "cancelled") in replies


async def test_a_missed_reply_is_found_without_asking_for_each_wait_that_is_open(stack: Stack) -> None:
    """However many are open: who asked for each, one after the other, would read no replies meanwhile."""
    await stack.dispatcher()
    later = time.time_ns() / 1e9 + 3600
    handles = await stack.client.submit_many([{"code": "pass", "not_before": later}] * 1000)
    missed = await stack.client.submit("pass", reply_to=stack.cell.keys.reply("somebody-else"))
    await wait_until(lambda: stack.has_state(handles[-1].id, "queued"), "all are taken")
    before = stack.client.round_trips
    await stack.worker()

    result = await missed.wait(30)

    assert result.outcome is Outcome.SUCCEEDED
    assert stack.client.round_trips - before < 100
