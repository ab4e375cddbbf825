"""The end of programs, asked for once or twice, and what they leave behind when nobody asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor import Outcome
from executor.keys import DISPATCHERS, WORKERS
from tests.support.parts import LANE
from tests.support.stack import Stack, process_exists
from tests.support.wait import wait_until


@pytest.fixture
async def quick(stack: Stack) -> AsyncIterator[Stack]:
    """Short leases, one slot."""
    running = Stack(stack.cell.url, stack.cell.keys.prefix, EXECUTOR_LEASE="1", EXECUTOR_SLOTS="1")
    yield running
    await running.close()


def gated(path: Path) -> str:
    """A program that leaves its process id and ends when a file is there; it heeds no signal that it can ignore."""
    begin = "import os, signal, subprocess, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    child = "other = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
    tell = f"open({str(path) + '.pid'!r}, 'w').write(f'{{os.getpid()}} {{other.pid}} ')\n"
    return (
        begin + child + tell + f"while not os.path.exists({str(path)!r}): time.sleep(0.01)\nother.kill()\nprint('done')"
    )


async def pids(path: Path) -> list[int]:
    """Its process and that process's child, as soon as both are known."""
    found: list[int] = []

    def told() -> bool:
        beside = Path(f"{path}.pid")
        text = beside.read_text() if beside.exists() else ""
        found.extend(map(int, text.split()) if text.endswith(" ") else ())
        return bool(found)

    await wait_until(told, "it runs")
    return found


async def consumers(stack: Stack, stream: str, group: str) -> set[str]:
    rows = await stack.redis.call("XINFO", "CONSUMERS", stream, group)
    return {row[1].decode() for row in rows}


async def lag(stack: Stack) -> int | None:
    return (await stack.upkeep.view(LANE)).lag


async def test_what_was_not_started_goes_back_at_once(quick: Stack, tmp_path: Path) -> None:
    """While what runs is let finish. This entry was delivered to the worker in a reply that it never got."""
    await quick.dispatcher()
    worker = await quick.worker(EXECUTOR_GRACE="30")
    handle = await quick.client.submit(gated(tmp_path / "go"))
    await pids(tmp_path / "go")
    second = await quick.client.submit("print('second')")
    await wait_until(lambda: quick.has_state(second.id, "queued"), "it waits")
    read = ("XREADGROUP", "GROUP", WORKERS, "worker-0", "COUNT", 1, "STREAMS", quick.cell.keys.lane(LANE), ">")
    assert await quick.redis.call(*read)

    worker.terminate()

    async def is_back() -> bool:
        return await lag(quick) == 1

    await wait_until(is_back, "it is in the lane again")
    assert worker.poll() is None
    assert not await quick.client.result(handle.id)
    (tmp_path / "go").touch()
    assert (await handle.wait(20)).stdout == "done\n"
    assert await asyncio.to_thread(worker.wait, 20) == 0
    await quick.worker()
    result = await second.wait(20)
    assert (result.stdout, result.attempt) == ("second\n", 1)


async def test_a_second_signal_ends_a_worker_now(quick: Stack, tmp_path: Path) -> None:
    """Its evaluation goes with it and is rescued."""
    await quick.dispatcher()
    worker = await quick.worker(EXECUTOR_GRACE="60")
    handle = await quick.client.submit(gated(tmp_path / "go"))
    children = await pids(tmp_path / "go")
    worker.terminate()

    async def drains() -> bool:
        executors = await quick.upkeep.executors()
        return any(one.facts.get("status") == "draining" for one in executors)

    await wait_until(drains, "it drains")
    assert worker.poll() is None
    worker.terminate()

    assert await asyncio.to_thread(worker.wait, 5) == 1
    await wait_until(lambda: not any(map(process_exists, children)), "its evaluation is gone")
    (tmp_path / "go").touch()
    await quick.worker()
    result = await handle.wait(20)
    assert (result.outcome, result.attempt) == (Outcome.SUCCEEDED, 2)
    await wait_until(lambda: quick.gone("worker-0"), "it is forgotten")


async def test_a_consumer_goes_only_when_it_holds_nothing(quick: Stack) -> None:
    """Of workers, and of dispatchers, that went away without a word."""
    lane, ingress = quick.cell.keys.lane(LANE), quick.cell.keys.requests()
    await quick.dispatcher()
    await quick.client.submit("pass", id="one", max_attempts=1)
    await wait_until(lambda: quick.has_state("one", "queued"), "it waits")
    for stream, group, name in ((lane, WORKERS, "holds"), (lane, WORKERS, "idle"), (ingress, DISPATCHERS, "dead")):
        await quick.redis.call("XREADGROUP", "GROUP", group, name, "COUNT", 1, "STREAMS", stream, ">")
    await quick.worker()
    assert {"holds", "idle"} <= await consumers(quick, lane, WORKERS)

    async def reaped() -> bool:
        left = await consumers(quick, lane, WORKERS) | await consumers(quick, ingress, DISPATCHERS)
        return not left & {"holds", "idle", "dead"}

    assert (await quick.client.wait("one", 20)).outcome == "succeeded"  # rescued from the one that held it
    await wait_until(reaped, "all three are gone")
    assert await quick.registered("worker-0")
    assert (await quick.client.run("print(1)", wait_timeout=20)).stdout == "1\n"


async def test_a_cancel_ends_the_child_within_a_second_and_is_answered_truthfully(quick: Stack, tmp_path: Path) -> None:
    await quick.dispatcher()
    await quick.worker()
    handle = await quick.client.submit(gated(tmp_path / "go"))
    queued = await quick.client.submit("print('never')")
    children = await pids(tmp_path / "go")

    assert await queued.cancel() == ("cancelled", "")
    began = time.monotonic()
    assert await handle.cancel() == ("cancelling", "worker-0")
    assert (await quick.client.cancel(handle.id))[0] in ("cancelling", "done")
    await wait_until(lambda: not any(map(process_exists, children)), "the child and its child are gone", 1.0)
    assert time.monotonic() - began < 1.0

    for one in (handle, queued):
        assert (await one.wait(20)).outcome is Outcome.CANCELLED
        assert await one.cancel() == ("done", "cancelled")
    late = await quick.client.submit("print('late')")
    assert (await late.wait(20)).stdout == "late\n"
    assert await late.cancel() == ("done", "succeeded")
    assert await quick.client.cancel("nobody") == ("unknown", "")


async def test_a_cancel_is_heard_without_the_control_channel(quick: Stack, tmp_path: Path) -> None:
    """The subscription is cut and the word is lost; the next renewal brings it."""
    await quick.dispatcher()
    await quick.worker()
    handle = await quick.client.submit(gated(tmp_path / "go"))
    children = await pids(tmp_path / "go")
    record = quick.cell.keys.record("default", handle.id)
    await quick.redis.call("HSET", record, "cancel", "1")  # what a cancel leaves when nobody hears of it

    assert (await handle.wait(20)).outcome is Outcome.CANCELLED
    await wait_until(lambda: not any(map(process_exists, children)), "the child is gone")
