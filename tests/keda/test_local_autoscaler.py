"""The local autoscaler: decisions over time, with a lane, a fleet and a clock that tests move by hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest

from executor.errors import PermanentError, ServerUnavailable
from executor.keys import Keys
from keda.autoscaler import LocalAutoscaler, ScaleEvent
from keda.demand import Demand
from keda.expression import Formula
from keda.fleet import Replica
from keda.manifests import LOCAL, load
from keda.objects import Scaled, ScaledJob, ScaledObject, ScalingModifiers, Strategy, Trigger, TriggerMode
from tests.keda.clock import VirtualClock

LAG = Trigger("lag", TriggerMode.LAG, 1)
PENDING = Trigger("pending", TriggerMode.PENDING, 1)
POOL = ScaledObject(
    name="warm-python",
    lane="warm.python",
    group="workers",
    triggers=(LAG, PENDING),
    polling_interval=2,
    max_replicas=10,
    cooldown=3,
    modifiers=ScalingModifiers(Formula.parse("lag + pending", ("lag", "pending")), 2),
)
JOB = ScaledJob(
    name="job-cpu",
    lane="job.cpu",
    group="workers",
    triggers=(LAG,),
    polling_interval=2,
    max_replicas=4,
    strategy=Strategy.ACCURATE,
)


@dataclass(slots=True)
class Lanes:
    """Demand by stream; an error in its place is raised."""

    by_stream: dict[str, Demand | Exception] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def demand(self, stream: str, group: str) -> Demand:
        self.asked.append((stream, group))
        found = self.by_stream.get(stream, Demand(0, 0))
        if isinstance(found, Exception):
            raise found
        return found


@dataclass(slots=True)
class Crew:
    """A fleet of names."""

    by_lane: dict[str, list[Replica]] = field(default_factory=dict)
    started: int = 0

    def replicas(self, lane: str) -> list[Replica]:
        return list(self.by_lane.get(lane, []))

    async def start(self, lane: str, count: int) -> None:
        for _ in range(count):
            self.started += 1
            self.by_lane.setdefault(lane, []).append(Replica(f"{lane}-{self.started}", ready=False, busy=False))

    async def stop(self, lane: str, count: int) -> None:
        del self.by_lane[lane][-count:]

    def claim(self, lane: str) -> None:
        """Every replica has claimed and works."""
        self.by_lane[lane] = [replace(replica, ready=True, busy=True) for replica in self.by_lane[lane]]


@dataclass(slots=True)
class Scene:
    """Everything a test moves and sees."""

    clock: VirtualClock
    lanes: Lanes
    crew: Crew
    events: list[ScaleEvent] = field(default_factory=list)

    def waits(self, lane: str, lag: int | None, pending: int = 0) -> None:
        self.lanes.by_stream[Keys().lane(lane)] = Demand(lag, pending)

    def steps(self) -> list[tuple[int, int]]:
        return [(event.before, event.after) for event in self.events]

    def count(self, lane: str) -> int:
        return len(self.crew.replicas(lane))


Play = Callable[..., contextlib.AbstractAsyncContextManager[Scene]]


@pytest.fixture
def play() -> Play:
    """Run an autoscaler over these objects for the length of a block."""

    @contextlib.asynccontextmanager
    async def played(*objects: Scaled, crew: Crew | None = None, sync_period: float = 1.0) -> AsyncIterator[Scene]:
        scene = Scene(VirtualClock(), Lanes(), crew or Crew())
        autoscaler = LocalAutoscaler(
            objects,
            scene.lanes,
            scene.crew,
            Keys().lane,
            sync_period=sync_period,
            on_event=scene.events.append,
            monotonic=scene.clock.monotonic,
            sleep=scene.clock.sleep,
        )
        running = asyncio.create_task(autoscaler.run())
        try:
            yield scene
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    return played


async def test_a_pool_wakes_grows_stays_while_busy_and_sleeps(play: Play) -> None:
    quick = replace(POOL.behavior, down=replace(POOL.behavior.down, window=2))
    async with play(replace(POOL, behavior=quick)) as scene:
        await scene.clock.advance(1.0)
        assert scene.events == []

        scene.waits("warm.python", lag=12)
        await scene.clock.advance(3.0)
        assert scene.steps() == [(0, 1), (1, 5)]  # the operator opens the door, the HPA may add four in 15 s

        await scene.clock.advance(15.0)
        assert scene.steps()[2:] == [(5, 6)]

        scene.waits("warm.python", lag=0, pending=12)
        await scene.clock.advance(60.0)
        assert scene.count("warm.python") == 6  # all claimed, nobody leaves

        scene.waits("warm.python", lag=0, pending=0)
        await scene.clock.advance(10.0)
        assert scene.steps()[3:] == [(6, 1), (1, 0)]


async def test_events_say_who_why_and_on_what(play: Play) -> None:
    async with play(POOL) as scene:
        scene.waits("warm.python", lag=1, pending=0)
        await scene.clock.advance(0.5)

        assert scene.events == [ScaleEvent("warm-python", "warm.python", 0, 1, lag=1, pending=0, reason="activated")]


async def test_polling_and_hpa_keep_their_own_time(play: Play) -> None:
    """The operator looks at 0, 2, 4...; the HPA, ten times slower here, at 0, 20, 40..."""
    async with play(POOL, sync_period=20.0) as scene:
        await scene.clock.advance(0.5)
        scene.waits("warm.python", lag=100)
        await scene.clock.advance(1.0)
        assert scene.count("warm.python") == 0

        await scene.clock.advance(1.0)
        assert scene.count("warm.python") == 1

        await scene.clock.advance(17.0)
        assert scene.count("warm.python") == 1

        await scene.clock.advance(1.0)
        assert scene.count("warm.python") == 5


async def test_a_demand_is_read_once_where_both_are_due(play: Play) -> None:
    async with play(POOL) as scene:
        await scene.clock.advance(4.5)

        assert scene.lanes.asked == [("executor:lane:warm.python", "workers")] * 5  # at 0, 1, 2, 3 and 4


async def test_dead_workers_are_replaced_without_a_decision(play: Play) -> None:
    async with play(POOL) as scene:
        scene.waits("warm.python", lag=0, pending=4)
        await scene.clock.advance(2.0)
        assert scene.count("warm.python") == 2
        decided = len(scene.events)

        del scene.crew.by_lane["warm.python"][0]
        await scene.clock.advance(1.0)

        assert scene.count("warm.python") == 2
        assert len(scene.events) == decided


async def test_a_pool_that_is_there_already_is_adopted(play: Play) -> None:
    crew = Crew()
    await crew.start("warm.python", 3)
    async with play(POOL, crew=crew) as scene:
        scene.waits("warm.python", lag=0, pending=6)
        await scene.clock.advance(5.0)

        assert scene.events == []
        assert scene.count("warm.python") == 3


async def test_one_entry_one_job(play: Play) -> None:
    async with play(JOB) as scene:
        scene.waits("job.cpu", lag=3)
        await scene.clock.advance(5.0)
        assert scene.count("job.cpu") == 3  # polled at 0, 2 and 4; the second and third saw three on their way

        scene.crew.claim("job.cpu")
        scene.waits("job.cpu", lag=0, pending=3)
        await scene.clock.advance(4.0)
        assert scene.crew.started == 3

        scene.waits("job.cpu", lag=2, pending=3)
        await scene.clock.advance(2.0)
        assert scene.crew.started == 4  # four at once, three work
        assert scene.steps() == [(0, 3), (3, 4)]


async def test_a_nil_lag_starts_nothing(play: Play) -> None:
    async with play(POOL, JOB) as scene:
        scene.waits("warm.python", lag=None)
        scene.waits("job.cpu", lag=None, pending=9)
        await scene.clock.advance(10.0)

        assert scene.events == []


async def test_an_outage_freezes_replicas_is_told_once_and_heals(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="keda.autoscaler")
    async with play(POOL) as scene:
        scene.waits("warm.python", lag=0, pending=4)
        await scene.clock.advance(2.0)

        scene.lanes.by_stream[Keys().lane("warm.python")] = ServerUnavailable("connection refused")
        await scene.clock.advance(600.0)
        assert scene.count("warm.python") == 2

        scene.waits("warm.python", lag=0, pending=0)
        await scene.clock.advance(10.0)
        assert scene.count("warm.python") == 0

    told = [(record.levelname, record.message) for record in caplog.records]
    assert told == [
        ("WARNING", "demand unknown: replicas stay as they are until the server answers"),
        ("INFO", "demand known again"),
    ]


async def test_dead_workers_are_replaced_during_an_outage(play: Play) -> None:
    async with play(POOL) as scene:
        scene.waits("warm.python", lag=1)
        await scene.clock.advance(0.5)
        scene.lanes.by_stream[Keys().lane("warm.python")] = ServerUnavailable("connection refused")

        scene.crew.by_lane["warm.python"].clear()
        await scene.clock.advance(1.0)

        assert scene.count("warm.python") == 1


async def test_what_a_person_must_fix_ends_the_autoscaler() -> None:
    lanes = Lanes({Keys().lane("job.cpu"): PermanentError("wrong key type")})

    with pytest.RaisesGroup(PermanentError):
        await LocalAutoscaler([JOB, POOL], lanes, Crew(), Keys().lane).run()


async def test_objects_scale_side_by_side_on_the_streams_of_their_cell() -> None:
    clock, lanes, crew = VirtualClock(), Lanes(), Crew()
    lanes.by_stream = {"{cell}:lane:warm.python": Demand(1, 0), "{cell}:lane:job.cpu": Demand(1, 0)}
    autoscaler = LocalAutoscaler(
        [POOL, JOB], lanes, crew, Keys("{cell}").lane, monotonic=clock.monotonic, sleep=clock.sleep
    )
    running = asyncio.create_task(autoscaler.run())
    await clock.advance(0.5)

    names = {task.get_name() for task in asyncio.all_tasks()}
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    assert {lane: len(replicas) for lane, replicas in crew.by_lane.items()} == {"warm.python": 1, "job.cpu": 1}
    assert {"autoscaler warm-python", "autoscaler job-cpu"} <= names


async def test_the_local_overlay_goes_up_and_back_to_zero_within_seconds(play: Play) -> None:
    """What `executor up` shows: both lanes from zero, and nothing left ten seconds after the work."""
    async with play(*load(LOCAL)) as scene:
        scene.waits("warm.python", lag=20)
        scene.waits("job.cpu", lag=5)
        await scene.clock.advance(2.0)
        assert (scene.count("warm.python"), scene.count("job.cpu")) == (2, 2)

        scene.waits("warm.python", lag=0)
        scene.waits("job.cpu", lag=0)
        scene.crew.by_lane["job.cpu"].clear()  # one-shot workers leave by themselves
        await scene.clock.advance(10.0)

        assert (scene.count("warm.python"), scene.count("job.cpu")) == (0, 0)
        assert [event.reason for event in scene.events if event.lane == "warm.python"] == [
            "activated",
            "above target",
            "below target",
            "idle past the cooldown",
        ]
