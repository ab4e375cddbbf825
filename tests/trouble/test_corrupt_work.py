"""What is stored for an evaluation is not what a dispatcher stored: it ends at once, says why, and holds nobody up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest

from executor import DeadLetter, Outcome
from executor.streams.dead import DeadLetters
from executor.streams.lane import Handback, Lane
from tests.support.parts import LANE
from tests.support.stack import Stack
from tests.support.wait import wait_until

RECORDS: dict[str, tuple[str, str | bytes | None, str]] = {
    "no payload": ("payload", None, "payload: missing"),
    "no attempt": ("attempt", None, "attempt: missing"),
    "an attempt that is text": ("attempt", "one", "attempt: not a whole number"),
    "an endless attempt": ("attempt", "9" * 400, "attempt: not a whole number"),
    "a generation that is text": ("generation", "-1", "generation: not a whole number"),
    "no time of its admission": ("queued_at", None, "queued_at: missing"),
    "no most attempts": ("max_attempts", "", "max_attempts: not a whole number"),
    "a deadline that is text": ("deadline", "tomorrow", "deadline: not a whole number"),
    "no state": ("state", None, "state: missing"),
    "an unknown state": ("state", "resting", "state: resting"),
    "another id": ("id", "another", "id or tenant: not those of its key"),
    "another tenant": ("tenant", "acme", "id or tenant: not those of its key"),
}
LIMITS = {"timeout": 5, "cpu": 5, "memory": 1 << 28, "processes": 9, "output": 4096, "max_attempts": 2}
GOOD = {"v": 1, "code": "pass", **LIMITS}


def packed(**values: Any) -> bytes:
    raw: bytes = msgpack.packb({name: value for name, value in {**GOOD, **values}.items() if value is not ...})
    return raw


PAYLOADS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not a msgpack map"),
    "no msgpack": (b"\xc1", "not a msgpack map"),
    "cut off": (packed()[:-7], "not a msgpack map"),
    "something behind it": (packed() + b"\x00", "not a msgpack map"),
    "a list": (msgpack.packb([1]), "not a msgpack map"),
    "without a bottom": (b"\x91" * 100_000, "not a msgpack map"),
    "a newer version": (packed(v=2), "v: this version reads 1 to 1"),
    "no timeout": (packed(timeout=...), "timeout: missing"),
    "a timeout that is text": (packed(timeout="5"), "timeout: cannot be '5'"),
    "a timeout that is no number": (packed(timeout=float("nan")), "timeout: cannot be nan"),
    "endless processor time": (packed(cpu=float("inf")), "cpu: cannot be inf"),
    "no memory at all": (packed(memory=0), "memory: cannot be 0"),
    "half an attempt": (packed(max_attempts=0.5), "max_attempts: cannot be 0.5"),
    "code that is a number": (packed(code=5), "code: cannot be 5"),
    "code that is bytes": (packed(code=b"pass"), "code: cannot be b'pass'"),
    "code and command": (packed(command=["ls"]), "code: stands beside `command`"),
    "an empty command": (packed(code=..., command=[]), "command: cannot be []"),
    "arguments that are text": (packed(args="abc"), "args: cannot be 'abc'"),
    "an environment of numbers": (packed(env={"A": 1}), "env: cannot be {'A': 1}"),
    "metadata of bytes": (packed(metadata={"a": b"\xff"}), "metadata: cannot be {'a': b'\\xff'}"),
    "a reply elsewhere": (packed(reply_to="somebody:else"), "reply_to: not a reply stream"),
    "times of another kind": (packed(times=[1]), "times: cannot be [1]"),
}


@pytest.fixture
async def hasty(stack: Stack) -> AsyncIterator[Stack]:
    """What waits may do so for a second."""
    variables = {"EXECUTOR_MAX_AGE": "1", "EXECUTOR_JANITOR_INTERVAL": "0.1", "EXECUTOR_LEASE": "0.3"}
    running = Stack(stack.cell.url, stack.cell.keys.prefix, **variables)
    yield running
    await running.close()


@pytest.fixture
async def quick(stack: Stack) -> AsyncIterator[Stack]:
    """Workers are given up soon, and give up soon."""
    variables = {"EXECUTOR_GRACE": "0.1", "EXECUTOR_JANITOR_INTERVAL": "0.1", "EXECUTOR_LEASE": "1"}
    running = Stack(stack.cell.url, stack.cell.keys.prefix, **variables)
    yield running
    await running.close()


async def letters_by_id(stack: Stack) -> dict[str, DeadLetter]:
    return {letter.id: letter for letter in await stack.client.dead_letters()}


async def each_ends_lost_and_says(stack: Stack, errors: dict[str, str]) -> None:
    """One result, one reply, one letter each; what came behind them is served; and the lane is empty."""
    await stack.worker()
    assert (await stack.result("behind"))["outcome"] == "succeeded"

    for name, error in errors.items():
        result = await stack.result(name)
        assert (result["outcome"], error in result["error"]) == ("lost", True), (name, result)
    for key in (stack.cell.keys.results(), stack.cell.keys.reply("me")):
        assert Counter(entry["id"] for entry in await stack.stream(key)) == Counter([*errors, "behind"])
    letters = await letters_by_id(stack)
    assert set(letters) == set(errors)
    assert {letter.reason for letter in letters.values()} == {"corrupt"}
    await wait_until(lambda: idle(stack), "the lane has neither lag nor entries in work")
    assert await stack.redis.call("EXISTS", stack.cell.keys.ages()) == 0


async def idle(stack: Stack) -> bool:
    view = await stack.upkeep.view(LANE)
    return (view.lag, view.pending) == (0, 0)


async def admitted(stack: Stack, names: list[str]) -> None:
    """These, and one more behind them, wait in the lane."""
    await stack.dispatcher()
    for name in (*names, "behind"):
        await stack.add(code="pass", id=name, reply_to=stack.cell.keys.reply("me"))
    await wait_until(lambda: stack.has_state("behind", "queued"), "all wait")


async def test_a_record_with_fields_of_no_dispatcher_ends_at_once(stack: Stack) -> None:
    names = {f"e-{number}": case for number, case in enumerate(RECORDS)}
    await admitted(stack, list(names))
    for name, case in names.items():
        field, value, _ = RECORDS[case]
        change = ("HDEL",) if value is None else ("HSET",)
        words = [field] if value is None else [field, value]
        await stack.redis.call(*change, stack.cell.keys.record("default", name), *words)

    await each_ends_lost_and_says(stack, {name: RECORDS[case][2] for name, case in names.items()})


async def test_a_payload_that_cannot_be_run_ends_at_once(stack: Stack) -> None:
    names = {f"e-{number}": case for number, case in enumerate(PAYLOADS)}
    await admitted(stack, list(names))
    for name, case in names.items():
        await stack.redis.call("HSET", stack.cell.keys.record("default", name), "payload", PAYLOADS[case][0])

    await each_ends_lost_and_says(stack, {name: PAYLOADS[case][1] for name, case in names.items()})


async def test_a_lane_entry_of_no_dispatcher_is_set_aside(stack: Stack) -> None:
    """Nobody knows what it is about, so nobody can be told; a person sees it."""
    await stack.dispatcher()
    lane = stack.cell.keys.lane(LANE)
    entries: list[tuple[str | bytes, ...]] = [
        ("hello", "world"),
        ("id", "", "tenant", "default"),
        ("id", "a b", "tenant", "default"),
        ("id", b"\xff\xfe", "tenant", "default"),
        ("id", "x" * 100_000, "tenant", "default"),
        ("id", "a", "tenant", "acme/a"),
        ("id", "a"),
        ("id", "a", "id", "b", "tenant", ":"),
    ]
    for fields in entries:
        await stack.redis.call("XADD", lane, "*", *fields)
    await stack.redis.call("XADD", lane, "*", "id", "unknown", "tenant", "default", "traceparent", "\xff" * 99)
    await stack.add(code="pass", id="behind")

    await stack.worker()

    assert (await stack.result("behind"))["outcome"] == "succeeded"
    letters = await stack.client.dead_letters()
    assert [(letter.reason, letter.lane) for letter in letters] == [("corrupt", LANE)] * len(entries)
    assert all("a lane entry of no dispatcher" in letter.error for letter in letters)
    assert max(len(letter.id) for letter in letters) <= 128
    assert [entry["id"] for entry in await stack.stream(stack.cell.keys.results())] == ["behind"]
    await wait_until(lambda: idle(stack), "the lane has neither lag nor entries in work")


async def test_what_is_not_worked_in_time_and_is_corrupt_ends_by_the_janitor(hasty: Stack) -> None:
    """Junk in the index of ages, and records that say no time, state or attempt: no pass ends early."""
    names = ["no-attempt", "no-state", "bad-state", "bad-deadline", "foreign", "bad-lane", "good"]
    await admitted(hasty, names)
    record = hasty.cell.keys.record
    for junk in (b"junk", b"\xff\xfe", f"{record('a', 'b')}/c", record("", "")):
        await hasty.redis.call("ZADD", hasty.cell.keys.ages(), 0, junk)
    await hasty.redis.call("HDEL", record("default", "no-attempt"), "attempt")
    await hasty.redis.call("HDEL", record("default", "no-state"), "state")
    await hasty.redis.call("HSET", record("default", "bad-state"), "state", "resting")
    await hasty.redis.call("HSET", record("default", "bad-deadline"), "deadline", b"\xff")
    await hasty.redis.call("HSET", record("default", "bad-lane"), "lane", b"\xff\xfe", "reply_to", "executor:lane:x")
    await hasty.redis.call("SET", record("default", "foreign"), "foreign", "PX", 600_000)
    await hasty.redis.call(
        "HSET", hasty.cell.keys.executors(), "a", "junk", "b", b"\xff", "c", "[]", "d", '{"busy": "x"}'
    )

    reasons = dict.fromkeys(names, "corrupt") | {"good": "age", "foreign": "unanswerable", "bad-lane": "age"}
    for name in names:
        assert (await hasty.result(name))["outcome"] == "lost", name
    await hasty.result("behind")
    assert {name: letter.reason for name, letter in (await letters_by_id(hasty)).items()} == reasons | {"behind": "age"}
    counted = Counter(entry["id"] for entry in await hasty.stream(hasty.cell.keys.results()))
    assert counted == Counter([*names, "behind"])
    assert await hasty.redis.call("EXISTS", hasty.cell.keys.ages(), hasty.cell.keys.executors()) == 0


async def test_work_that_always_outlives_its_worker_comes_to_an_end(quick: Stack) -> None:
    """Each worker is told to stop and hands it back; the last time it is lost, and its letter says what it wrote."""
    await quick.dispatcher()
    code = "import time\nprint('on and on')\nwhile True: time.sleep(0.01)"
    handle = await quick.client.submit(code, max_attempts=2, timeout=25)
    for attempt in ("1", "2"):
        worker = await quick.worker(wait=False)

        async def runs(attempt: str = attempt) -> bool:
            state = await quick.client.state(handle.id)
            return (state.get("state"), state.get("attempt")) == ("running", attempt)

        await wait_until(runs, f"attempt {attempt} runs")
        await asyncio.sleep(
            0.2
        )  # nothing but the evaluation itself sees that it has written, and its output is not live
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 20) == 0

    assert (await handle.wait(20)).outcome is Outcome.LOST
    (letter,) = await quick.client.dead_letters(id=handle.id)
    assert (letter.reason, letter.attempts) == ("attempts", 2)
    assert [(past.owner, past.attempt, past.output) for past in letter.history] == [
        ("worker-0", 1, "on and on\n"),
        ("worker-1", 2, "on and on\n"),
    ]
    assert all("outlasted the grace period" in past.how for past in letter.history)


async def test_a_letter_of_poison_says_what_it_wrote_last(quick: Stack) -> None:
    """Its worker is killed with it, so that only what was streamed is known; and the letter stays readable."""
    await quick.dispatcher()
    code = "import time\nprint('x' * 3000, 'é' * 1000, flush=True)\nwhile True: time.sleep(0.01)"
    handle = await quick.client.submit(code, max_attempts=1, stream=True, timeout=25)
    worker = await quick.worker()
    output = quick.cell.keys.output("default", handle.id)
    await wait_until(lambda: holds_entries(quick, output), "it has written")

    worker.kill()

    await handle.wait(20)
    (letter,) = await quick.client.dead_letters(id=handle.id)
    (past,) = letter.history
    assert (past.owner, past.attempt, past.how) == ("worker-0", 1, "its lease ran out")
    assert past.output.endswith("é" * 1000 + "\n")
    assert len(past.output.encode()) <= 2048
    assert "�" not in past.output
    shown = await DeadLetters(quick.cell).show(letter)
    assert shown is not None
    assert shown.letter == letter
    await wait_until(lambda: quick.gone("worker-0"), "the worker is forgotten")


async def holds_entries(stack: Stack, key: str) -> bool:
    return bool(await stack.redis.call("XLEN", key))


async def test_a_history_is_bounded(quick: Stack) -> None:
    """Many attempts that each wrote much: the first ones' output is kept, and every owner."""
    await quick.dispatcher()
    await quick.add(code="pass", id="one", max_attempts="10")
    record = quick.cell.keys.record("default", "one")
    await wait_until(lambda: quick.has_state("one", "queued"), "it waits")
    await quick.redis.call("HSET", record, "max_attempts", 20)
    lane = Lane(quick.cell, LANE, "by-hand")
    await lane.ensure()
    past = Handback("by hand", "\x00" * 5000)
    for _ in range(20):
        (entry,) = await lane.read(1, 20_000)
        lease = await lane.claim(entry)
        assert lease is not None
        await lane.release(entry, lease.generation, past)
        later = quick.cell.keys.line(LANE)[4]
        for member in await quick.redis.call("ZRANGE", later, 0, -1):
            await quick.redis.call("ZADD", later, 0, member)  # its time has come

    (letter,) = await quick.client.dead_letters(id="one")
    assert [past.attempt for past in letter.history] == list(range(1, 21))
    assert len(letter.history[0].output) == 2048
    assert letter.history[-1].output == ""
    assert (await quick.redis.call("HSTRLEN", record, "history")) < 64 * 1024
