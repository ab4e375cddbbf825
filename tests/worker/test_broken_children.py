"""Processes of a worker that end before anything was asked of them, as when the machine is out of memory."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from pathlib import Path
from random import Random

import pytest

from executor import Outcome
from executor.errors import WorkerBroken
from tests.support.processes import generation, send, state
from tests.support.stack import Stack
from tests.support.wait import wait_until
from worker.keepers import Keeper
from worker.kernel.tree import descendants

SLOTS = 1


ZYGOTE, KEEPERS, CHILDREN = 1, 2, 3
"""Steps below a worker."""


def below(worker: subprocess.Popen[bytes], steps: int) -> list[int]:
    return generation(worker.pid, steps)


async def all_there(worker: subprocess.Popen[bytes]) -> None:
    """Wait until each keeper has its child ready."""
    await wait_until(lambda: len(below(worker, CHILDREN)) == SLOTS + 1, "each keeper has a child")


async def test_a_timeout_holds_after_a_child_that_waited_was_killed(stack: Stack) -> None:
    await stack.dispatcher()
    worker = await stack.worker(EXECUTOR_SLOTS=str(SLOTS))
    await all_there(worker)
    waiting = below(worker, CHILDREN)

    for pid in waiting:
        send(pid, signal.SIGKILL)
    await wait_until(lambda: not set(waiting) & set(descendants(worker.pid)), "the killed are gone")
    await all_there(worker)

    for _ in range(SLOTS + 1):  # each keeper once
        result = await stack.client.run("import time; time.sleep(30)", timeout=0.2, wait_timeout=20)
        assert (result.outcome, result.attempt) == (Outcome.TIMED_OUT, 1)


async def test_no_result_is_another_evaluation_s_while_children_are_killed(stack: Stack) -> None:
    """A request may be on its way to a child that dies: it runs elsewhere, or is done; never is it somebody else's."""
    await stack.dispatcher()
    worker = await stack.worker(EXECUTOR_SLOTS=str(SLOTS), EXECUTOR_LOG_LEVEL="error")
    await all_there(worker)
    ended = asyncio.Event()

    async def kill() -> None:
        dice = Random(1)
        while not ended.is_set():
            for pid in below(worker, CHILDREN)[:1]:
                send(pid, signal.SIGKILL)
            await asyncio.sleep(dice.uniform(0, 0.02))  # which moment it hits is the test

    killer = asyncio.create_task(kill())
    requests = [{"code": f"print({number})", "max_attempts": 2} for number in range(200)]
    results = [await handle.wait(40) for handle in await stack.client.submit_many(requests)]
    ended.set()
    await killer

    done = {number: one.stdout for number, one in enumerate(results) if one.outcome is Outcome.SUCCEEDED}
    assert len(done) > 20
    assert done == {number: f"{number}\n" for number in done}


async def test_a_keeper_that_ended_before_it_was_given_work_says_so() -> None:
    """It may end between being handed to an evaluation that waited for one and that evaluation's next step."""
    ours, theirs = socket.socketpair()
    theirs.close()
    keeper = Keeper("gone", ours, lambda _: None)
    keeper.connection_lost(None)

    with pytest.raises(WorkerBroken):
        await asyncio.wait_for(keeper.start(b"request"), 2)


async def test_a_worker_has_as_many_keepers_as_before_its_zygote_was_killed(stack: Stack) -> None:
    await stack.dispatcher()
    worker = await stack.worker(EXECUTOR_SLOTS="4")
    await wait_until(lambda: len(below(worker, KEEPERS)) == 5, "all keepers are there")
    (zygote,) = below(worker, ZYGOTE)
    keepers = below(worker, KEEPERS)

    send(zygote, signal.SIGKILL)
    for keeper in keepers[:3]:
        send(keeper, signal.SIGKILL)

    def renewed() -> bool:
        return below(worker, ZYGOTE) not in ([], [zygote]) and len(below(worker, CHILDREN)) >= 5

    await wait_until(renewed, "there are a zygote and keepers again")
    results = [await handle.wait(20) for handle in await stack.client.submit_many([{"code": "print(1)"}] * 20)]
    assert {one.stdout for one in results} == {"1\n"}
    assert len(below(worker, ZYGOTE)) == 1
    assert len(below(worker, KEEPERS)) == 5


async def test_what_an_evaluation_wrote_goes_although_its_keeper_was_killed(stack: Stack, tmp_path: Path) -> None:
    """It was there for as long as the worker lived."""
    await stack.dispatcher()
    await stack.worker(EXECUTOR_SCRATCH_DIR=str(tmp_path))
    code = "import os, time\nopen('left', 'w').write('x')\nos.kill(os.getppid(), 9)\ntime.sleep(9)"

    result = await stack.client.run(code, max_attempts=1, wait_timeout=20)

    assert result.outcome is Outcome.LOST
    await wait_until(lambda: not any(tmp_path.rglob("left")), "what it wrote is gone", 5)
    assert (await stack.client.run("print(1)", wait_timeout=20)).stdout == "1\n"


async def test_a_worker_killed_after_its_zygote_leaves_no_scratch_folder(stack: Stack, tmp_path: Path) -> None:
    """The zygote would have removed it; without one the keepers do."""
    await stack.dispatcher()
    worker = await stack.worker(EXECUTOR_SCRATCH_DIR=str(tmp_path), EXECUTOR_LEASE="1")
    await wait_until(lambda: len(below(worker, KEEPERS)) == 3, "all keepers are there")
    keepers = below(worker, KEEPERS)
    handle = await stack.client.submit("open('left', 'w').write('x')\nwhile True: pass", timeout=20, max_attempts=1)
    await wait_until(lambda: any(tmp_path.rglob("left")), "the evaluation has written")

    for pid in [*below(worker, ZYGOTE), worker.pid]:
        send(pid, signal.SIGKILL)

    await wait_until(lambda: not any(state(pid) in "RS" for pid in keepers if state(pid)), "the keepers have ended")
    await wait_until(lambda: not any(tmp_path.iterdir()), "the scratch folder is gone", 5)
    await handle.cancel()
    await wait_until(lambda: stack.gone("worker-0"), "the janitor has forgotten the worker")
