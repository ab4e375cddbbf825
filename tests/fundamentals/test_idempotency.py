"""A key of the caller's: the same work is run once, whoever asks again and under whichever id."""

from __future__ import annotations

import pytest

from executor import replies
from tests.support.stack import Stack
from tests.support.wait import wait_until


async def test_a_key_used_before_gives_the_first_evaluation(stack: Stack) -> None:
    await stack.dispatcher()
    first = await stack.client.submit("import os; print(os.urandom(8).hex())", idempotency_key="order 7")
    await wait_until(lambda: stack.has_state(first.id, "queued"), "the first is admitted")

    again = await stack.client.submit("print('never run')", idempotency_key="order 7")

    assert (again.id, again.state, first.state) == (first.id, "queued", "submitted")
    await stack.worker()
    assert await again.wait(20) == await first.wait(20)
    later = await stack.client.submit("print('never run')", idempotency_key="order 7")
    assert (later.id, later.state) == (first.id, "done")
    assert await later.wait(20) == await again.wait(20)
    assert [entry["id"] for entry in await stack.stream(stack.cell.keys.results())] == [first.id]


async def test_a_key_used_twice_before_a_dispatcher_looks_is_run_once(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "_BLOCK_MS", 600_000)  # without the look at what had no reply for a while
    first = await stack.client.submit("import os; print(os.urandom(8).hex())", idempotency_key="order 7")
    again = await stack.client.submit("print('never run')", idempotency_key="order 7")
    await stack.dispatcher()
    await stack.worker()

    result, same = await first.wait(20), await again.wait(20)

    assert first.id != again.id
    assert same == result
    assert (await stack.client.state(again.id)) == {"state": "duplicate", "duplicate_of": first.id}
    assert [entry["id"] for entry in await stack.stream(stack.cell.keys.results())] == [first.id]
    assert await stack.client.result(again.id) == result
    assert await again.cancel() == ("duplicate", first.id)


async def test_an_id_used_before_is_not_added_again(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()
    result = await stack.client.run("print(1)", id="one")
    added = await stack.redis.call("XINFO", "STREAM", stack.cell.keys.requests())

    again = await stack.client.submit("print(2)", id="one")

    assert (again.id, again.state) == ("one", "done")
    assert await again.wait(20) == result
    assert await stack.redis.call("XINFO", "STREAM", stack.cell.keys.requests()) == added


async def test_a_wait_does_not_depend_on_the_reply_that_says_duplicate(stack: Stack) -> None:
    """A reply can be trimmed, or lost with a server that is started again."""
    elsewhere = stack.cell.keys.reply("elsewhere")
    first = await stack.client.submit("print(1)", idempotency_key="k")
    again = await stack.client.submit("print(2)", idempotency_key="k", reply_to=elsewhere)
    await stack.dispatcher()
    await stack.worker()

    assert await again.wait(20) == await first.wait(20)


async def test_following_the_output_of_a_duplicate_ends(stack: Stack) -> None:
    await stack.client.submit("print(1)", idempotency_key="k")
    again = await stack.client.submit("print(2)", idempotency_key="k", stream=True)
    await stack.dispatcher()

    assert [chunk async for chunk in again.stream()] == []


async def test_a_key_belongs_to_its_tenant_and_to_what_was_admitted(stack: Stack) -> None:
    await stack.dispatcher()
    refused = await stack.client.run("pass", timeout=10**9, idempotency_key="k")
    await stack.worker()
    taken = await stack.client.run("print(1)", idempotency_key="k", wait_timeout=20)

    assert (refused.outcome, taken.stdout) == ("rejected", "1\n")


async def test_plain_fields_with_a_key_are_told_which_evaluation_is_meant(stack: Stack) -> None:
    await stack.dispatcher()
    reply_to = stack.cell.keys.reply("caller")
    first = await stack.add(code="pass", idempotency_key="k")
    second = await stack.add(code="pass", idempotency_key="k", reply_to=reply_to)

    async def answered() -> bool:
        return bool(await stack.stream(reply_to))

    await wait_until(answered, "the second is answered")
    told = {"id": second, "tenant": "default", "state": "duplicate", "duplicate_of": first}
    assert await stack.stream(reply_to) == [told]
    assert (await stack.upkeep.view("warm.python")).lag == 1
