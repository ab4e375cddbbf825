"""ProcessFleet with real, small processes; every wait is for a condition."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from keda.processes import Backoff, ProcessFleet, ReplicaState

LANE = "warm.python"
WORKER = """
import os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
pathlib.Path(os.environ["FOLDER"], os.environ["NAME"]).write_text(str(os.getpid()))
signal.pause()
"""
STUBBORN = WORKER.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN").replace("pause()", "sigwait([signal.SIGUSR1])")
FAILING = "import sys; sys.exit(3)"
QUICK = Backoff(first=0.01, longest=0.05)


class Bench:
    """A fleet whose workers write their process id into a folder, and a registry that tests fill by hand."""

    def __init__(self, folder: Path, code: str, drain_seconds: float, backoff: Backoff) -> None:
        self.folder = folder
        self.code = code
        self.registry: dict[str, ReplicaState] = {}
        self.spawned: list[str] = []
        self.fleet = ProcessFleet(self._command, self._environment, self.registry.get, drain_seconds, backoff=backoff)

    def _command(self, lane: str) -> list[str]:
        return [sys.executable, "-S", "-c", self.code, lane]

    def _environment(self, lane: str, name: str) -> dict[str, str]:
        self.spawned.append(name)
        return {"FOLDER": str(self.folder), "NAME": name, "LANE": lane}

    def names(self) -> list[str]:
        return [replica.id for replica in self.fleet.replicas(LANE)]

    def pid(self, name: str) -> int:
        file = self.folder / name
        return int(file.read_text() or 0) if file.exists() else 0

    async def running(self, count: int) -> list[int]:
        """Wait until that many workers have said their process id."""
        await until(lambda: len(self.names()) == count and all(map(self.pid, self.names())))
        return [self.pid(name) for name in self.names()]


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process runs; an orphan that nobody has reaped yet does not."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    return False


MakeBench = Callable[..., Bench]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[MakeBench]:
    made: list[Bench] = []

    def make(code: str = WORKER, drain_seconds: float = 20.0, backoff: Backoff = QUICK) -> Bench:
        made.append(Bench(tmp_path, code, drain_seconds, backoff))
        return made[-1]

    yield make
    for each in made:
        await each.fleet.close()


async def test_replicas_count_at_once_and_are_named_like_pods(bench: MakeBench) -> None:
    fleet = bench().fleet

    await fleet.start(LANE, 2)

    names = [replica.id for replica in fleet.replicas(LANE)]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"worker-warm-python-[a-z0-9]{5}", name) for name in names)
    assert fleet.replicas("job.cpu") == []


async def test_ready_and_busy_are_what_the_registry_says(bench: MakeBench) -> None:
    made = bench()
    await made.fleet.start(LANE, 1)
    await made.running(1)
    (name,) = made.names()

    seen = [made.fleet.replicas(LANE)[0]]
    for state in (ReplicaState(ready=True, busy=False), ReplicaState(ready=True, busy=True)):
        made.registry[name] = state
        seen.append(made.fleet.replicas(LANE)[0])

    assert [(replica.ready, replica.busy) for replica in seen] == [(False, False), (True, False), (True, True)]


async def test_stop_takes_the_unready_then_the_idle_then_the_busy(bench: MakeBench) -> None:
    made = bench()
    await made.fleet.start(LANE, 4)
    await made.running(4)
    busy, idle, idler, _ = made.names()
    made.registry[busy] = ReplicaState(ready=True, busy=True)
    made.registry[idle] = made.registry[idler] = ReplicaState(ready=True, busy=False)

    left = []
    for _ in range(4):
        await made.fleet.stop(LANE, 1)
        left.append(made.names())

    assert left == [[busy, idle, idler], [busy, idle], [busy], []]


async def test_stop_drains_a_worker_and_does_not_wait_for_it(
    bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    made = bench()
    await made.fleet.start(LANE, 1)
    (pid,) = await made.running(1)

    await made.fleet.stop(LANE, 1)

    assert made.names() == []
    await until(lambda: not alive(pid))
    assert caplog.records == []


async def test_a_worker_that_does_not_drain_is_killed(bench: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    made = bench(STUBBORN, drain_seconds=0.05)
    await made.fleet.start(LANE, 1)
    (pid,) = await made.running(1)

    await made.fleet.stop(LANE, 1)

    await until(lambda: not alive(pid))
    await made.fleet.close()
    assert [record.message for record in caplog.records] == ["worker did not drain in time: killed"]


async def test_a_worker_leads_a_session_of_its_own(bench: MakeBench) -> None:
    """Ctrl-C reaches the parent alone, and a kill reaches everything the worker started."""
    made = bench()
    await made.fleet.start(LANE, 1)
    (pid,) = await made.running(1)

    assert os.getsid(pid) == pid


async def test_close_leaves_nothing_behind_and_starts_nothing_more(bench: MakeBench) -> None:
    made = bench()
    await made.fleet.start(LANE, 3)
    pids = await made.running(3)

    await made.fleet.close()
    await made.fleet.start(LANE, 1)

    assert made.names() == []
    assert not any(map(alive, pids))


async def test_close_right_after_start_leaves_nothing_behind(bench: MakeBench) -> None:
    made = bench()
    await made.fleet.start(LANE, 2)

    await made.fleet.close()

    assert made.names() == []


async def test_a_worker_that_ends_is_reaped_in_silence(bench: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    made = bench("pass")
    await made.fleet.start(LANE, 1)

    await until(lambda: not made.names())

    assert caplog.records == []


async def test_a_worker_that_fails_is_told_with_its_lane_and_exit_code(
    bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    made = bench(FAILING)
    await made.fleet.start(LANE, 1)
    (name,) = made.names()

    await until(lambda: not made.names())

    (record,) = caplog.records
    facts = {key: record.__dict__[key] for key in ("message", "lane", "replica", "exit_code")}
    assert facts == {"message": "worker failed", "lane": LANE, "replica": name, "exit_code": 3}
    assert record.levelno == logging.WARNING


async def test_a_lane_that_keeps_failing_waits_as_an_unready_replica(bench: MakeBench) -> None:
    """Like CrashLoopBackOff: it counts, so that nobody asks for more of it, and runs no process."""
    made = bench(FAILING, backoff=Backoff(first=3600.0, longest=3600.0))
    await made.fleet.start(LANE, 1)
    await until(lambda: not made.names())

    await made.fleet.start(LANE, 1)
    await made.fleet.start("job.cpu", 1)
    await until(lambda: len(made.spawned) == 2)  # the other lane is not held back

    (replica,) = made.fleet.replicas(LANE)
    assert (replica.ready, replica.busy) == (False, False)
    assert replica.id not in made.spawned

    await made.fleet.stop(LANE, 1)
    await until(lambda: not made.fleet.replicas(LANE))


async def test_failures_are_counted_in_rounds_and_forgotten_after_a_success(bench: MakeBench) -> None:
    """Workers that were started together and fail together are one failure."""
    counted: list[int] = []

    class Recorder(Backoff):
        def delay(self, failures: int) -> float:
            counted.append(failures)
            return 0.0

    made = bench(backoff=Recorder())
    for code, count in ((FAILING, 3), (FAILING, 1), ("pass", 1), (FAILING, 1)):
        made.code = code
        await made.fleet.start(LANE, count)
        await until(lambda: not made.names())

    assert counted == [1, 1, 1, 2, 1]


async def test_a_command_that_is_not_there_backs_off_too(bench: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    made = bench()
    fleet = ProcessFleet(lambda _: ["/nonexistent"], lambda *_: {}, made.registry.get, 1.0, backoff=QUICK)

    await fleet.start(LANE, 1)
    await until(lambda: not fleet.replicas(LANE))

    assert [record.message for record in caplog.records] == ["worker cannot be started"]


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0.0), (1, 1.0), (2, 2.0), (3, 4.0), (5, 16.0), (6, 30.0), (5000, 30.0)]
)
def test_backoff_doubles_from_one_second_to_thirty(failures: int, seconds: float) -> None:
    assert Backoff().delay(failures) == seconds


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is of Linux")
async def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = f"""
import asyncio, sys
from keda.processes import ProcessFleet
async def main():
    fleet = ProcessFleet(
        lambda lane: [sys.executable, "-S", "-c", {STUBBORN!r}],
        lambda lane, name: {{"FOLDER": {str(tmp_path)!r}, "NAME": "worker"}},
        lambda name: None,
        10.0,
    )
    await fleet.start("warm.python", 1)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent)
    file = tmp_path / "worker"
    await until(lambda: file.exists() and bool(file.read_text()))

    process.send_signal(signal.SIGKILL)
    await process.wait()

    await until(lambda: not alive(int(file.read_text())))
