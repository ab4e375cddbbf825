"""Workers in trouble: killed, stopped, frozen or idle, and every evaluation still ends once."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from executor import Outcome
from executor.result import EvaluationResult
from executor.streams.lane import Lane, Lease
from executor.streams.terminal import Destination
from tests.support.stack import Stack, process_exists
from tests.support.wait import wait_until

LANE = "warm.python"


@pytest.fixture
async def quick(stack: Stack) -> AsyncIterator[Stack]:
    """A stack whose leases run out after a second."""
    running = Stack(stack.cell.url, stack.cell.keys.prefix, EXECUTOR_LEASE="1")
    yield running
    await running.close()


@pytest.fixture
async def hasty(stack: Stack) -> AsyncIterator[Stack]:
    """A stack whose leases run out as soon as they may."""
    running = Stack(stack.cell.url, stack.cell.keys.prefix, EXECUTOR_LEASE="0.3")
    yield running
    await running.close()


def gated(path: Path) -> str:
    """A program that ends when a file is there, and first leaves its process id in another."""
    begin = f"import os, time\nopen({str(path) + '.pid'!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    return begin + f"while not os.path.exists({str(path)!r}): time.sleep(0.01)\nprint('done')"


def pids(path: Path) -> list[int]:
    """Process ids that gated programs left."""
    beside = Path(f"{path}.pid")
    return [int(line) for line in beside.read_text().splitlines()] if beside.exists() else []


async def state_is(stack: Stack, evaluation_id: str, **facts: str) -> None:
    """Wait until the record of an evaluation says something."""

    async def said() -> bool:
        return facts.items() <= (await stack.client.state(evaluation_id)).items()

    await wait_until(said, f"{evaluation_id} has {facts}")


async def results(stack: Stack) -> Counter[str]:
    """How many terminal results each id has."""
    return Counter(entry["id"] for entry in await stack.stream(stack.cell.keys.results()))


async def all_end_once(stack: Stack, ids: list[str]) -> None:
    """Wait until every id has a result; then there is exactly one of each."""

    async def complete() -> bool:
        return set(await results(stack)) >= set(ids)

    await wait_until(complete, "every id has a result", 40)
    assert await results(stack) == Counter(ids)


async def view_is(stack: Stack, lag: int, pending: int) -> None:
    """Wait until the lane has so many undelivered and unacknowledged entries."""

    async def seen() -> bool:
        view = await stack.upkeep.view(LANE)
        return (view.lag, view.pending) == (lag, pending)

    await wait_until(seen, f"lag {lag}, pending {pending}")


async def forgotten(stack: Stack, worker: str) -> None:
    """Wait until the janitor has taken a dead worker out of the registry."""

    async def gone() -> bool:
        return not await facts(stack, worker)

    await wait_until(gone, f"{worker} is forgotten")


async def facts(stack: Stack, worker: str) -> dict[str, object]:
    """What the registry says of a worker."""
    flat = await stack.redis.call("HGET", stack.cell.keys.executors(), worker)
    found: dict[str, object] = json.loads(flat) if flat else {}
    return found


async def get(port: int, path: str) -> tuple[int, str]:
    """GET a page; status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


async def test_a_worker_killed_in_the_middle_of_a_batch_costs_no_result(quick: Stack) -> None:
    await quick.dispatcher()
    victim = await quick.worker()
    await quick.worker()
    requests = [{"code": f"import time; time.sleep(0.05); print({number})"} for number in range(40)]
    ids = [handle.id for handle in await quick.client.submit_many(requests)]

    async def some() -> bool:
        return len(await results(quick)) >= 5

    await wait_until(some, "some have ended")
    victim.kill()

    await all_end_once(quick, ids)
    await forgotten(quick, "worker-0")


async def test_a_killed_worker_leaves_no_process_of_an_evaluation(quick: Stack, tmp_path: Path) -> None:
    await quick.dispatcher()
    victim = await quick.worker()
    handle = await quick.client.submit(gated(tmp_path / "go"), max_attempts=1)
    await wait_until(lambda: bool(pids(tmp_path / "go")), "it runs")
    (pid,) = pids(tmp_path / "go")

    victim.kill()

    await wait_until(lambda: not process_exists(pid), "the evaluation is gone")
    assert (await handle.wait(20)).outcome is Outcome.LOST
    await forgotten(quick, "worker-0")


async def test_what_kills_every_worker_is_lost_and_a_dead_letter(quick: Stack, tmp_path: Path) -> None:
    await quick.dispatcher()
    handle = await quick.client.submit(gated(tmp_path / "never"), max_attempts=2)
    for attempt in ("1", "2"):
        worker = await quick.worker()
        await state_is(quick, handle.id, state="running", attempt=attempt)
        worker.kill()

    result = await handle.wait(20)
    assert (result.outcome, result.attempt) == (Outcome.LOST, 2)
    (letter,) = await quick.client.dead_letters()
    assert (letter.id, letter.reason, letter.attempts) == (handle.id, "attempts", 2)
    assert [(past.attempt, past.owner, past.how) for past in letter.history] == [
        (1, "worker-0", "its lease ran out"),
        (2, "worker-1", "its lease ran out"),
    ]
    await all_end_once(quick, [handle.id])
    await forgotten(quick, "worker-0")
    await forgotten(quick, "worker-1")


async def claimed(stack: Stack, lane: Lane) -> Lease:
    """Take one entry as a worker would."""
    found: list[Lease] = []

    async def take() -> bool:
        for entry in await lane.read(1, 100):
            lease = await lane.claim(entry)
            found.extend([lease] if lease else [])
        return bool(found)

    await wait_until(take, f"{lane.name} gives an entry")
    return found[0]


async def test_a_stale_commit_is_refused_and_a_repeated_one_confirmed(hasty: Stack) -> None:
    await hasty.dispatcher()
    await hasty.add(code="pass", id="one")
    first, second = Lane(hasty.cell, LANE, "a"), Lane(hasty.cell, LANE, "b")
    to = Destination("default", "one")
    done = EvaluationResult(id="one", outcome=Outcome.SUCCEEDED)

    old = await claimed(hasty, first)
    await state_is(hasty, "one", state="queued")
    new = await claimed(hasty, second)

    assert (old.attempt, new.attempt) == (1, 2)
    assert (await first.commit(old, to, done))[0] is False
    assert (await second.commit(new, to, done))[0] is True
    assert (await second.commit(new, to, done))[0] is True
    assert (await first.commit(old, to, done))[0] is False
    await all_end_once(hasty, ["one"])


async def test_a_frozen_worker_that_wakes_adds_no_second_result(quick: Stack, tmp_path: Path) -> None:
    await quick.dispatcher()
    frozen = await quick.worker()
    handle = await quick.client.submit(gated(tmp_path / "go"))
    await state_is(quick, handle.id, state="running", owner="worker-0")

    frozen.send_signal(signal.SIGSTOP)
    try:
        await quick.worker()
        await state_is(quick, handle.id, state="running", owner="worker-1")
        (tmp_path / "go").touch()
        assert (await handle.wait(20)).worker == "worker-1"
    finally:
        frozen.send_signal(signal.SIGCONT)

    async def idle_again() -> bool:
        return await quick.registered("worker-0") and (await facts(quick, "worker-0"))["busy"] == 0

    await wait_until(idle_again, "the frozen worker is back and idle")
    await all_end_once(quick, [handle.id])
    assert frozen.poll() is None


async def test_sigterm_lets_running_work_finish_and_leaves_no_trace(quick: Stack, tmp_path: Path) -> None:
    await quick.dispatcher()
    worker = await quick.worker(EXECUTOR_SLOTS="1")
    handle = await quick.client.submit(gated(tmp_path / "go"))
    await state_is(quick, handle.id, state="running")
    waiting = [await quick.client.submit(f"print({number})") for number in range(2)]
    await view_is(quick, lag=2, pending=1)

    worker.terminate()

    async def draining() -> bool:
        return (await facts(quick, "worker-0")).get("status") == "draining"

    await wait_until(draining, "it says that it drains")
    (tmp_path / "go").touch()
    assert (await handle.wait(20)).stdout == "done\n"
    assert await asyncio.to_thread(worker.wait, 20) == 0
    await view_is(quick, lag=2, pending=0)
    assert await quick.redis.call("XINFO", "CONSUMERS", quick.cell.keys.lane(LANE), "workers") == []
    assert await quick.redis.call("HLEN", quick.cell.keys.executors()) == 0

    await quick.worker()
    assert [(await one.wait(20)).stdout for one in waiting] == ["0\n", "1\n"]


async def test_work_that_outlasts_the_grace_period_is_handed_back(quick: Stack, tmp_path: Path) -> None:
    await quick.dispatcher()
    worker = await quick.worker(EXECUTOR_GRACE="0.1")
    handle = await quick.client.submit(gated(tmp_path / "go"))
    await wait_until(lambda: bool(pids(tmp_path / "go")), "it runs")
    (pid,) = pids(tmp_path / "go")

    worker.terminate()

    assert await asyncio.to_thread(worker.wait, 20) == 0
    assert not process_exists(pid)
    await view_is(quick, lag=1, pending=0)
    (tmp_path / "go").touch()
    await quick.worker()
    result = await handle.wait(20)
    assert (result.outcome, result.attempt) == (Outcome.SUCCEEDED, 2)
    await all_end_once(quick, [handle.id])


async def test_a_claim_whose_answer_was_lost_is_handed_back(stack: Stack) -> None:
    """A worker that does not know that it owns an entry hands it back as one that it never started."""
    await stack.dispatcher()
    await stack.add(code="pass", id="one")
    lane = Lane(stack.cell, LANE, "a")
    lease = await claimed(stack, lane)

    assert await lane.release(lease.entry, None) == "requeued"
    await state_is(stack, "one", state="queued")
    assert await lane.leave()


async def test_an_idle_worker_exits_when_it_may(quick: Stack) -> None:
    await quick.dispatcher()
    worker = await quick.worker(wait=False, IDLE_TIMEOUT="0.5")
    assert (await quick.client.run("print(1)", wait_timeout=20)).stdout == "1\n"

    assert await asyncio.to_thread(worker.wait, 20) == 0
    assert await quick.redis.call("HLEN", quick.cell.keys.executors()) == 0
    assert await quick.redis.call("XINFO", "CONSUMERS", quick.cell.keys.lane(LANE), "workers") == []


async def test_a_worker_answers_probes_and_scrapes(quick: Stack) -> None:
    await quick.dispatcher()
    await quick.worker()
    await quick.client.run("print(1)", wait_timeout=20)

    async def has_address() -> bool:
        return bool((await facts(quick, "worker-0")).get("url"))

    await wait_until(has_address, "its address is in the registry")
    port = int(str((await facts(quick, "worker-0"))["url"]).rpartition(":")[2])

    assert (await get(port, "/healthz"))[0] == 200
    assert (await get(port, "/readyz"))[0] == 200
    status, metrics = await get(port, "/metrics")
    assert (status, (await get(port, "/nothing"))[0]) == (200, 404)
    assert [line for line in metrics.splitlines() if line.startswith("executor_evaluations_total{")]


async def test_lag_is_exact_while_work_ends_out_of_order(quick: Stack, tmp_path: Path) -> None:
    await quick.dispatcher()
    await quick.worker()
    slow = await quick.client.submit(gated(tmp_path / "go"))
    await state_is(quick, slow.id, state="running")

    for _ in range(3):
        for handle in await quick.client.submit_many([{"code": "pass"}] * 5):
            await handle.wait(20)
            assert (await quick.upkeep.view(LANE)).lag is not None
        await view_is(quick, lag=0, pending=1)
    (tmp_path / "go").touch()

    await slow.wait(20)
    await view_is(quick, lag=0, pending=0)


async def test_an_unknown_lag_is_repaired(stack: Stack) -> None:
    stream = stack.cell.keys.lane(LANE)
    await Lane(stack.cell, LANE, "a").ensure()
    entries = [await stack.add(stream, id=str(number)) for number in range(3)]
    await stack.redis.call("XGROUP", "SETID", stream, "workers", entries[1])
    assert (await stack.upkeep.view(LANE)).lag is None

    _, repaired = await stack.upkeep.tidy(stream, "workers")

    assert repaired
    assert (await stack.upkeep.view(LANE)).lag == 1
    assert (await stack.upkeep.tidy(stream, "workers"))[1] is False


async def test_streams_are_short_again_after_load(quick: Stack) -> None:
    await quick.dispatcher()
    await quick.worker()
    for handle in await quick.client.submit_many([{"code": "pass"}] * 60):
        await handle.wait(30)

    async def short() -> bool:
        lane = await quick.redis.call("XLEN", quick.cell.keys.lane(LANE))
        ingress = await quick.redis.call("XLEN", quick.cell.keys.requests())
        return bool(lane <= 1 and ingress <= 1)

    await wait_until(short, "lane and ingress are trimmed")


async def test_a_killed_worker_leaves_no_scratch_folder(quick: Stack, tmp_path: Path) -> None:
    """Its zygote sees the supervisor go and removes what the evaluations wrote."""
    await quick.dispatcher()
    worker = await quick.worker(EXECUTOR_SCRATCH_DIR=str(tmp_path))
    handle = await quick.client.submit("open('left', 'w').write('x')\nwhile True: pass", timeout=20)
    await wait_until(lambda: any(tmp_path.rglob("left")), "the evaluation has written")

    worker.kill()

    await wait_until(lambda: not any(tmp_path.iterdir()), "the scratch folder is gone")
    await handle.cancel()
    await wait_until(lambda: quick.gone("worker-0"), "the janitor has forgotten the worker")


async def test_the_second_attempt_comes_at_once_and_later_ones_wait(stack: Stack) -> None:
    """What fails again and again fails for a reason that needs time."""
    await stack.dispatcher()
    lane = Lane(stack.cell, LANE, "by-hand")
    await lane.ensure()
    handle = await stack.client.submit("pass", max_attempts=5)
    due = []
    for attempt in (1, 2, 3, 4):
        (entry,) = await lane.read(1, 20_000)
        lease = await lane.claim(entry)
        assert lease is not None
        assert lease.attempt == attempt
        assert await lane.release(entry, lease.generation) == "requeued"
        later = await stack.redis.call("ZRANGE", stack.cell.keys.waiting(LANE)[1], 0, -1, "WITHSCORES")
        seconds, micros = await stack.redis.call("TIME")
        due.append(int(later[1]) / 1000 - int(seconds) - int(micros) / 1e6 if later else None)

    assert due[0] is None
    assert all(wait is not None and wait <= limit for wait, limit in zip(due[1:], (1, 2, 4), strict=True))
    assert (await stack.client.state(handle.id))["attempt"] == "4"
