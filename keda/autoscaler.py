"""The local autoscaler: what KEDA and the HPA do to pods on a cluster, done to worker processes.

One task per manifest looks at its lane each `pollingInterval` (and each HPA sync period for a pool) and applies
`keda.job_formula` or `keda.pool_formula`. While the server is away nothing scales, as on a cluster without a
fallback; replicas that died are still replaced, as a Deployment would. It does not stop the fleet when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from executor.errors import TransientError
from keda.demand import Demand, DemandSource
from keda.fleet import Fleet
from keda.job_formula import jobs_to_create
from keda.objects import Scaled, ScaledJob, ScaledObject
from keda.pool_formula import Decision, PoolState, poll, sync

log = logging.getLogger(__name__)

SYNC_PERIOD: Final = 1.0
"""Seconds between two HPA syncs. A cluster's default is 15, for the sake of its API server; here there is none."""


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """One decision that changed the number of replicas.

    Attributes:
        name: name of the ScaledObject or ScaledJob.
        lane: the lane it scales on.
        before: replicas until now.
        after: replicas from now on.
        lag: entries nobody had read; None where the server could not tell.
        pending: entries being worked on.
        reason: why, in a few words.
    """

    name: str
    lane: str
    before: int
    after: int
    lag: int | None
    pending: int
    reason: str


class LocalAutoscaler:
    """Follows manifests until cancelled."""

    def __init__(
        self,
        objects: Sequence[Scaled],
        source: DemandSource,
        fleet: Fleet,
        stream_of: Callable[[str], str],
        *,
        sync_period: float = SYNC_PERIOD,
        on_event: Callable[[ScaleEvent], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare to scale.

        Args:
            objects: what `keda.manifests.load` returned.
            source: where demand is read.
            fleet: what is scaled.
            stream_of: the stream of a lane; `Keys.lane` of the cell.
            sync_period: seconds between two HPA syncs.
            on_event: told of each decision that changes a number of replicas.
            monotonic: clock in seconds.
            sleep: waits that many seconds of that clock.
        """
        self._monotonic = monotonic
        self._sleep = sleep
        self._scalers: list[_Scaler] = []
        for scaled in objects:
            gauge = _Gauge(scaled, source, stream_of(scaled.lane))
            report = _ignore if on_event is None else on_event
            if isinstance(scaled, ScaledJob):
                self._scalers.append(_JobScaler(scaled, gauge, fleet, report))
            else:
                self._scalers.append(_PoolScaler(scaled, gauge, fleet, report, sync_period))

    async def run(self) -> None:
        """Scale every object until cancelled; one that cannot go on ends all."""
        async with asyncio.TaskGroup() as tasks:
            for scaler in self._scalers:
                tasks.create_task(self._follow(scaler), name=f"autoscaler {scaler.name}")

    async def _follow(self, scaler: _Scaler) -> None:
        while True:
            due = await scaler.step(self._monotonic())
            await self._sleep(max(0.0, due - self._monotonic()))


class _Scaler(Protocol):
    """Scales one object."""

    @property
    def name(self) -> str: ...

    async def step(self, now: float) -> float:
        """Do what is due; return the instant at which something is due next."""
        ...


class _Gauge:
    """Reads the demand of one lane; an outage is told once, when it begins, and once when it ends."""

    def __init__(self, scaled: Scaled, source: DemandSource, stream: str) -> None:
        self._scaled = scaled
        self._source = source
        self._stream = stream
        self._away = False

    async def read(self) -> Demand | None:
        """The demand, or None while the server is away."""
        try:
            demand = await self._source.demand(self._stream, self._scaled.group)
        except TransientError as error:
            if not self._away:
                log.warning(
                    "demand unknown: replicas stay as they are until the server answers",
                    extra={"lane": self._scaled.lane, "reason": str(error)},
                )
            self._away = True
            return None
        if self._away:
            log.info("demand known again", extra={"lane": self._scaled.lane})
        self._away = False
        return demand


class _JobScaler:
    """Starts one-shot workers as KEDA starts Jobs; they leave by themselves."""

    def __init__(self, job: ScaledJob, gauge: _Gauge, fleet: Fleet, report: Callable[[ScaleEvent], None]) -> None:
        self.name = job.name
        self._job = job
        self._gauge = gauge
        self._fleet = fleet
        self._report = report
        self._next_poll = float("-inf")

    async def step(self, now: float) -> float:
        if now < self._next_poll:
            return self._next_poll
        self._next_poll = now + self._job.polling_interval
        # Counted before the demand is read: a claim in between then delays a Job by one poll; the other way round,
        # which is KEDA's, the same entry would be counted as work that no Job is on its way to.
        replicas = self._fleet.replicas(self._job.lane)
        demand = await self._gauge.read()
        if demand is None:
            return self._next_poll
        pending = sum(not replica.ready for replica in replicas)
        count = jobs_to_create(self._job, demand, running=len(replicas), pending=pending)
        if count > 0:
            await self._fleet.start(self._job.lane, count)
            before, after = len(replicas), len(replicas) + count
            self._report(_event(self._job, demand, before, after, "entries without a job"))
        return self._next_poll


class _PoolScaler:
    """Keeps as many workers as KEDA's operator and the HPA would, and replaces those that died."""

    def __init__(
        self,
        pool: ScaledObject,
        gauge: _Gauge,
        fleet: Fleet,
        report: Callable[[ScaleEvent], None],
        sync_period: float,
    ) -> None:
        self.name = pool.name
        self._pool = pool
        self._gauge = gauge
        self._fleet = fleet
        self._report = report
        self._sync_period = sync_period
        self._replicas = len(fleet.replicas(pool.lane))
        self._state: PoolState | None = None
        self._next_poll = self._next_sync = float("-inf")

    async def step(self, now: float) -> float:
        poll_is_due, sync_is_due = now >= self._next_poll, now >= self._next_sync
        if poll_is_due or sync_is_due:
            demand = await self._gauge.read()
            if demand is not None:
                self._decide(demand, now, poll_is_due=poll_is_due, sync_is_due=sync_is_due)
            await self._reconcile()
        if poll_is_due:
            self._next_poll = now + self._pool.polling_interval
        if sync_is_due:
            self._next_sync = now + self._sync_period
        return min(self._next_poll, self._next_sync)

    def _decide(self, demand: Demand, now: float, *, poll_is_due: bool, sync_is_due: bool) -> None:
        state = self._state or PoolState(created_at=now)
        if poll_is_due:
            state = self._accept(poll(self._pool, state, demand, replicas=self._replicas, now=now), demand)
        if sync_is_due:
            state = self._accept(sync(self._pool, state, demand, replicas=self._replicas, now=now), demand)
        self._state = state

    def _accept(self, decision: Decision, demand: Demand) -> PoolState:
        if decision.replicas != self._replicas:
            self._report(_event(self._pool, demand, self._replicas, decision.replicas, decision.reason))
        self._replicas = decision.replicas
        return decision.state

    async def _reconcile(self) -> None:
        missing = self._replicas - len(self._fleet.replicas(self._pool.lane))
        if missing > 0:
            await self._fleet.start(self._pool.lane, missing)
        elif missing < 0:
            await self._fleet.stop(self._pool.lane, -missing)


def _event(scaled: Scaled, demand: Demand, before: int, after: int, reason: str) -> ScaleEvent:
    return ScaleEvent(scaled.name, scaled.lane, before, after, demand.lag, demand.pending, reason)


def _ignore(event: ScaleEvent) -> None:
    """Nobody listens."""
