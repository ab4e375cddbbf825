"""Dead letters: what is written, what can be run again and what cannot, and what is thrown away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from executor import DeadLetter, InvalidField, PastAttempt
from executor.outcome import Reason
from executor.streams.dead import DeadLetters
from executor.streams.lane import Lane, LaneEntry
from executor.sync import Client as SyncClient
from tests.support.stack import Stack
from tests.support.wait import wait_until

LANE = "warm.python"


@pytest.fixture
async def aging(stack: Stack) -> AsyncIterator[Stack]:
    """Evaluations that may wait for a second."""
    variables = {"EXECUTOR_MAX_AGE": "1", "EXECUTOR_JANITOR_INTERVAL": "0.1"}
    running = Stack(stack.cell.url, stack.cell.keys.prefix, **variables)
    yield running
    await running.close()


@pytest.fixture
async def hasty(stack: Stack) -> AsyncIterator[Stack]:
    """Leases that run out as soon as they may."""
    variables = {"EXECUTOR_LEASE": "0.3", "EXECUTOR_JANITOR_INTERVAL": "0.1"}
    running = Stack(stack.cell.url, stack.cell.keys.prefix, **variables)
    yield running
    await running.close()


async def letters_of(stack: Stack, evaluation_id: str) -> list[DeadLetter]:
    return await stack.client.dead_letters(id=evaluation_id)


async def lost(stack: Stack, **fields: str) -> DeadLetter:
    """An evaluation that nobody took in time."""
    evaluation_id = await stack.add(**fields)
    evaluation_id = fields.get("id", evaluation_id)
    assert (await stack.result(evaluation_id))["outcome"] == "lost"
    (letter,) = await letters_of(stack, evaluation_id)
    return letter


async def record(stack: Stack, evaluation_id: str) -> dict[str, str]:
    return await stack.hash(stack.cell.keys.record("default", evaluation_id))


async def entries(stack: Stack, evaluation_id: str) -> int:
    """How often an evaluation was put into the lane."""
    return Counter(entry["id"] for entry in await stack.stream(stack.cell.keys.lane(LANE)))[evaluation_id]


async def claim(lane: Lane) -> LaneEntry:
    """Take an entry as a worker would."""
    taken: list[LaneEntry] = []

    async def one() -> bool:
        for entry in await lane.read(1, 100):
            taken.extend([entry] if await lane.claim(entry) else [])
        return bool(taken)

    await wait_until(one, f"{lane.name} gives an entry")
    return taken[0]


async def letter(stack: Stack, entry: str, **fields: str) -> None:
    """A letter as of that entry id."""
    words = [word for pair in fields.items() for word in pair]
    await stack.redis.call("XADD", stack.cell.keys.dead(), entry, *words)


async def test_what_is_lost_by_its_age_is_run_again(aging: Stack) -> None:
    await aging.dispatcher()
    reply_to = aging.cell.keys.reply("caller")

    letter = await lost(aging, id="old", code="print(6 * 7)", max_attempts="2", reply_to=reply_to)
    assert (letter.tenant, letter.lane, letter.stream, letter.reason) == ("default", LANE, "", "age")
    assert (letter.attempts, letter.history) == (0, ())
    assert letter.error == (await aging.result("old"))["error"]
    assert abs(letter.at - int(letter.entry.partition("-")[0])) < 1000

    await aging.worker()
    assert await aging.client.redrive(letter.entry) == "old:again-1"

    result = await aging.result("old:again-1")
    assert (result["outcome"], result["stdout"], result["attempt"]) == ("succeeded", "42\n", "1")
    assert (await aging.result("old"))["outcome"] == "lost"
    replies = [(entry["id"], entry["outcome"]) for entry in await aging.stream(reply_to)]
    assert replies == [("old", "lost"), ("old:again-1", "succeeded")]
    assert await letters_of(aging, "old") == []
    assert (await aging.client.state("old"))["redriven_as"] == "old:again-1"
    assert (await record(aging, "old:again-1"))["redrive_of"] == "old"


async def test_a_redrive_is_admitted_as_the_first_time(stack: Stack, aging: Stack) -> None:
    await aging.dispatcher()
    first = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    await aging.client.submit("pass", id="one", stream=True, max_attempts=7, traceparent=first)
    await aging.result("one")
    (letter,) = await letters_of(aging, "one")
    before = await record(aging, "one")
    assert before["payload"]

    again = await stack.client.redrive(letter)  # whose evaluations may wait for a day

    after = await record(aging, again)
    copied = ("lane", "payload", "max_attempts", "reply_to", "stream", "traceparent", "tenant")
    assert {name: after[name] for name in copied} == {name: before[name] for name in copied}
    assert (after["state"], after["attempt"], after["generation"]) == ("queued", "0", "0")
    assert int(after["queued_at"]) > int(before["queued_at"])
    key = aging.cell.keys.record("default", again)
    day_ms = 86_400_000
    assert await aging.redis.call("PTTL", key) == pytest.approx(2 * day_ms, abs=60_000)
    due = float(await aging.redis.call("ZSCORE", aging.cell.keys.ages(), key))
    assert due == pytest.approx(int(after["queued_at"]) + day_ms, abs=50)


async def test_the_same_letter_is_redriven_once(stack: Stack, aging: Stack) -> None:
    """Repeated one after the other, and by two at once."""
    await aging.dispatcher()
    one, two = await lost(aging, id="one", code="pass"), await lost(aging, id="two", code="pass")
    other = DeadLetters(stack.cell)

    first = await stack.client.redrive(one)
    assert [await stack.client.redrive(one), await other.redrive(one)] == [first, first]
    both = await asyncio.gather(*(client.redrive(two) for client in (stack.client, other) * 5))

    assert set(both) == {"two:again-1"}
    assert [await entries(aging, name) for name in ("one:again-1", "two:again-1")] == [1, 1]
    assert await entries(aging, "one:again-2") == await entries(aging, "two:again-2") == 0
    with pytest.raises(InvalidField, match=f"no dead letter {one.entry}"):
        await aging.client.redrive(one.entry)


async def test_redrives_are_counted_up(aging: Stack) -> None:
    await aging.dispatcher()
    first = await lost(aging, id="one", code="pass")
    again = await aging.client.redrive(first)
    assert (await aging.result(again))["outcome"] == "lost"
    (second,) = await letters_of(aging, again)

    assert (again, await aging.client.redrive(second)) == ("one:again-1", "one:again-2")

    taken = await lost(aging, id="two", code="pass")
    await aging.add(id="two:again-1", code="pass")
    await aging.result("two:again-1")
    assert await aging.client.redrive(taken) == "two:again-2"


async def test_an_id_without_room_is_refused(aging: Stack) -> None:
    await aging.dispatcher()
    fits, full = "f" * 120, "x" * 121
    letters = [await lost(aging, id=name, code="pass") for name in (fits, full)]

    assert await aging.client.redrive(letters[0]) == f"{fits}:again-1"
    with pytest.raises(InvalidField, match="129 characters long"):
        await aging.client.redrive(letters[1])
    assert await letters_of(aging, full) == [letters[1]]
    assert "redriven_as" not in await record(aging, full)


async def test_what_is_lost_by_its_attempts_says_who_had_them_and_is_run_again(hasty: Stack) -> None:
    """One attempt was handed back, the other's worker went away."""
    await hasty.dispatcher()
    await hasty.add(id="one", code="print(1)", max_attempts="2")
    first, second = Lane(hasty.cell, LANE, "a"), Lane(hasty.cell, LANE, "b")

    assert await first.release(await claim(first), 1) == "requeued"
    await claim(second)

    assert (await hasty.result("one"))["outcome"] == "lost"
    (letter,) = await letters_of(hasty, "one")
    assert (letter.reason, letter.lane, letter.attempts) == ("attempts", LANE, 2)
    assert [(past.attempt, past.owner, past.how, past.output) for past in letter.history] == [
        (1, "a", "handed back", ""),
        (2, "b", "its lease ran out", ""),
    ]
    assert all(0 <= letter.at - past.at < 60_000 for past in letter.history)
    await hasty.worker()
    again = await hasty.client.redrive(letter)
    assert (await hasty.client.wait(again, 20)).stdout == "1\n"


async def test_another_tenants_is_run_again_under_its_tenant(aging: Stack) -> None:
    from dispatcher.policy import Policy, TenantPolicy

    await aging.dispatcher(Policy(tenants={"acme": TenantPolicy(trusted=True)}))
    await aging.add(aging.cell.keys.requests("acme"), id="one", code="print(2)")
    await aging.result("one", "acme")
    (letter,) = await aging.client.dead_letters(tenant="acme")

    await aging.worker()
    again = await aging.client.redrive(letter)

    assert (await aging.result(again, "acme"))["stdout"] == "2\n"


async def test_what_cannot_be_read_is_refused(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.add(id="one", code="pass", max_attempts="1")
    await wait_until(lambda: stack.has_state("one", "queued"), "it waits")
    await stack.redis.call("HSET", stack.cell.keys.record("default", "one"), "payload", b"\xc1")

    await stack.worker()

    await wait_until(lambda: _is_dead(stack, "one"), "it is a dead letter")
    (letter,) = await letters_of(stack, "one")
    assert (letter.reason, letter.lane, letter.attempts) == ("corrupt", LANE, 1)
    assert "msgpack" in letter.error
    with pytest.raises(InvalidField, match="cannot be read"):
        await stack.client.redrive(letter)
    assert await letters_of(stack, "one") == [letter]


async def test_what_could_not_be_answered_is_refused(stack: Stack) -> None:
    """Its record holds something else: when it comes to ingress, and when it comes to a worker."""
    await stack.dispatcher()
    await stack.redis.call("SET", stack.cell.keys.record("default", "early"), "foreign", "EX", 60)
    await stack.add(id="early", code="pass")
    await stack.add(id="late", code="pass")
    await wait_until(lambda: stack.has_state("late", "queued"), "it waits")
    await stack.redis.call("SET", stack.cell.keys.record("default", "late"), "foreign", "EX", 60)
    await stack.worker()

    for name in ("early", "late"):
        await wait_until(lambda name=name: _is_dead(stack, name), f"{name} is a dead letter")  # type: ignore[misc]
        (letter,) = await letters_of(stack, name)
        assert letter.reason == "unanswerable"
        with pytest.raises(InvalidField, match="not kept"):
            await stack.client.redrive(letter)
        shown = await DeadLetters(stack.cell).show(letter)
        assert shown is not None
        assert shown.record == {}
        assert shown.result is not None
        assert shown.result.outcome == "lost"
    assert {bool(one.lane): one.id for one in await stack.client.dead_letters()} == {False: "early", True: "late"}


async def _is_dead(stack: Stack, evaluation_id: str) -> bool:
    return bool(await letters_of(stack, evaluation_id))


async def test_without_its_record_it_is_refused(aging: Stack) -> None:
    """It has expired, or the id has been used anew: that other request is not run instead."""
    await aging.dispatcher()
    old = await lost(aging, id="one", code="pass")
    await aging.redis.call("DEL", aging.cell.keys.record("default", "one"), aging.cell.keys.result("default", "one"))
    with pytest.raises(InvalidField, match="not kept any more"):
        await aging.client.redrive(old)

    await aging.add(id="one", code="print('another')")
    await aging.result("one")
    newer, older = await letters_of(aging, "one")
    assert older == old
    with pytest.raises(InvalidField, match="not kept any more"):
        await aging.client.redrive(old)
    assert await aging.client.redrive(newer) == "one:again-1"


async def test_what_was_purged_meanwhile_is_refused(aging: Stack) -> None:
    await aging.dispatcher()
    letter = await lost(aging, id="one", code="pass")

    assert await aging.client.purge(letter) == 1

    with pytest.raises(InvalidField, match="no dead letter"):
        await aging.client.redrive(letter)
    assert await entries(aging, "one:again-1") == 0


async def test_a_letter_of_an_earlier_version_is_listed_and_refused(stack: Stack) -> None:
    await letter(stack, "5000-1", id="one", tenant="default", attempts="2", history="a,b")

    (old,) = await stack.client.dead_letters()

    assert (old.entry, old.reason, old.at, old.attempts) == ("5000-1", "", 5000, 2)
    assert old.history == (PastAttempt("a"), PastAttempt("b"))
    with pytest.raises(InvalidField, match="not kept"):
        await stack.client.redrive(old)


async def test_a_result_is_not_lost_with_the_stream_of_letters(aging: Stack) -> None:
    await aging.redis.call("SET", aging.cell.keys.dead(), "foreign", "EX", 60)
    await aging.dispatcher()

    await aging.add(id="one", code="pass")

    assert (await aging.result("one"))["outcome"] == "lost"
    await aging.redis.call("DEL", aging.cell.keys.dead())


async def test_burying_twice_makes_one_letter(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.add(id="one", code="pass")
    lane = Lane(stack.cell, LANE, "a")
    entry = await claim(lane)

    for _ in range(2):
        await lane.bury(entry, Reason.CORRUPT, "not this")

    assert [letter.error for letter in await letters_of(stack, "one")] == ["not this"]
    assert await lane.pending(10) == []


MATCHES: list[tuple[dict[str, Any], str]] = [
    ({}, "edcba"),
    ({"tenant": "acme"}, "ca"),
    ({"lane": "job.gpu"}, "cb"),
    ({"reason": "age"}, "eb"),
    ({"id": "d"}, "d"),
    ({"lane": "job.gpu", "tenant": "acme"}, "c"),
    ({"before": datetime.fromtimestamp(3, UTC)}, "ba"),
    ({"after": datetime.fromtimestamp(3, UTC)}, "edc"),
    ({"after": datetime.fromtimestamp(2, UTC), "before": datetime.fromtimestamp(4, UTC)}, "cb"),
    ({"before": datetime.fromtimestamp(4, UTC), "tenant": "acme"}, "ca"),
    ({"before": datetime.fromtimestamp(0, UTC)}, ""),
    ({"before": timedelta(hours=1)}, "dcba"),
    ({"after": timedelta(hours=1)}, "e"),
    ({"tenant": "nobody"}, ""),
]


async def five(stack: Stack) -> None:
    """Letters `a` to `d` of 1970, and `e` of now."""
    other = {"tenant": "default", "lane": LANE, "reason": "attempts"}
    await letter(stack, "1000-0", **{**other, "id": "a", "tenant": "acme"})
    await letter(stack, "2000-0", **{**other, "id": "b", "lane": "job.gpu", "reason": "age"})
    await letter(stack, "3000-0", **{**other, "id": "c", "lane": "job.gpu", "tenant": "acme"})
    await letter(stack, "4000-0", **{**other, "id": "d"})
    await letter(stack, "*", **{**other, "id": "e", "reason": "age"})


@pytest.mark.parametrize(("match", "ids"), MATCHES)
async def test_filters_choose_what_is_listed_and_purged(stack: Stack, match: dict[str, Any], ids: str) -> None:
    await five(stack)

    assert "".join(one.id for one in await stack.client.dead_letters(**match)) == ids
    if match:
        assert await stack.client.purge(**match) == len(ids)
        left = {one.id for one in await stack.client.dead_letters()}
        assert left == set("abcde") - set(ids)


async def test_pages_are_joined_and_a_limit_ends_them(stack: Stack) -> None:
    for number in range(1, 1203):
        await letter(stack, f"{number}-0", id=str(number), reason="age" if number % 3 else "attempts")

    ids = [int(one.id) for one in await stack.client.dead_letters(reason="attempts")]
    assert ids == list(range(1200, 0, -3))
    assert [one.id for one in await stack.client.dead_letters(2)] == ["1202", "1201"]
    assert await stack.client.purge(reason="age") == 802
    assert await stack.client.purge(everything=True) == 400


@pytest.mark.parametrize(
    ("match", "field"),
    [
        ({"tenant": "a b"}, "tenant"),
        ({"reason": "boredom"}, "reason"),
        ({"id": "a/b"}, "id"),
        ({"lane": ""}, "lane"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_filter_that_cannot_be_one_is_named(stack: Stack, match: dict[str, Any], field: str) -> None:
    await letter(stack, "1000-0", id="a")

    for use in (stack.client.dead_letters, stack.client.purge):
        with pytest.raises(InvalidField, match=f"^{field}: "):
            await use(**match)
    assert len(await stack.client.dead_letters()) == 1


async def test_a_purge_needs_one_choice_and_an_entry_is_an_entry(stack: Stack) -> None:
    await five(stack)

    for choice in ({}, {"entry": "1000-0", "everything": True}, {"everything": True, "lane": LANE}):
        with pytest.raises(InvalidField, match="everything"):
            await stack.client.purge(**choice)  # type: ignore[arg-type]
    for entry in ("", "one", "-", "1000", "1-0 ", "²-0", f"{2**64}-0"):
        with pytest.raises(InvalidField, match="entry"):
            await stack.client.purge(entry)
        with pytest.raises(InvalidField, match="entry"):
            await stack.client.redrive(entry)
    assert await stack.client.purge("1000-0") == 1
    assert await stack.client.purge("1000-0") == 0
    assert await stack.client.purge(everything=True) == 4


async def test_the_blocking_client_does_the_same(stack: Stack, aging: Stack) -> None:
    await aging.dispatcher()
    await lost(aging, id="one", code="pass")

    def use() -> tuple[list[str], str, int]:
        with SyncClient(stack.cell.url, settings=stack.settings) as client:
            found = client.dead_letters(lane=LANE)
            return [one.id for one in found], client.redrive(found[0]), client.purge(everything=True)

    assert await asyncio.to_thread(use) == (["one"], "one:again-1", 0)
    assert await stack.has_state("one:again-1", "queued")
