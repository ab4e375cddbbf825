"""A small discrete simulation of one-shot Jobs on a lane: not a measurement of KEDA, but of its formulas.

Evaluations arrive at random, each poll creates as many Jobs as the formula says, a Job takes time to be scheduled,
to claim and, after its end, to be seen as complete. Time goes in steps of a tenth of a second.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from keda.demand import Demand
from keda.job_formula import jobs_to_create
from keda.objects import ScaledJob

STEP = 0.1


@dataclass(slots=True)
class Job:
    """One Job of the simulation; instants in seconds, infinite until they are known."""

    created: float
    claimed: float = float("inf")
    ended: float = float("inf")
    complete: float = float("inf")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    created: int
    wasted: int
    waits: list[float] = field(repr=False)

    def wait(self, quantile: float) -> float:
        """Seconds from arrival to claim."""
        return sorted(self.waits)[int(quantile * (len(self.waits) - 1))]


@dataclass(frozen=True, slots=True)
class World:
    """Evaluations and delays: 200, two a second, two to eight seconds each; 1.0 s to schedule, 0.8 s to claim."""

    evaluations: int = 200
    rate: float = 2.0
    shortest: float = 2.0
    longest: float = 8.0
    poll: float = 1.0
    schedule: float = 1.0
    claim: float = 0.8
    completion: float = 1.5
    seed: int = 1


def pending_until_running(world: World) -> Callable[[Job, float], bool]:
    """A Job is pending for KEDA until its pod runs: claims in its main container."""
    return lambda job, now: now < job.created + world.schedule


def pending_until_claimed(job: Job, now: float) -> bool:
    """A Job is pending for KEDA until it has claimed: claims before its pod counts as running."""
    return now < job.claimed


def simulate(job: ScaledJob, world: World, is_pending: Callable[[Job, float], bool]) -> Outcome:
    """Run until every evaluation has ended."""
    chance = random.Random(world.seed)
    arrivals: list[tuple[float, float]] = []
    at = 0.0
    for _ in range(world.evaluations):
        at += chance.expovariate(world.rate)
        arrivals.append((at, chance.uniform(world.shortest, world.longest)))
    queue: list[tuple[float, float]] = []
    jobs: list[Job] = []
    waits: list[float] = []
    now, next_poll = 0.0, 0.0
    while len(waits) < world.evaluations or any(one.ended > now for one in jobs):
        while arrivals and arrivals[0][0] <= now:
            queue.append(arrivals.pop(0))
        for one in jobs:
            if one.ended == float("inf") and now >= one.created + world.schedule + world.claim:
                one.ended = now  # it found nothing, unless:
                if queue:
                    arrived, duration = queue.pop(0)
                    waits.append(now - arrived)
                    one.claimed, one.ended = now, now + duration
                one.complete = one.ended + world.completion
        if now >= next_poll:
            next_poll = now + world.poll
            alive = [one for one in jobs if now < one.complete]
            demand = Demand(lag=len(queue), pending=sum(one.claimed <= now < one.ended for one in jobs))
            pending = sum(is_pending(one, now) for one in alive)
            jobs += [Job(now) for _ in range(jobs_to_create(job, demand, running=len(alive), pending=pending))]
        now += STEP
    return Outcome(created=len(jobs), wasted=sum(one.claimed == float("inf") for one in jobs), waits=waits)
