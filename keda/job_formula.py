"""How many Jobs a ScaledJob creates at one poll: KEDA's arithmetic as pure functions.

Follows pkg/scaling/scaledjob/metrics.go and pkg/scaling/executor/scale_jobs.go of KEDA 2.20.2 (`accurate` as
corrected by keda#7329). The strategies `eager` and `custom` are not offered: the first starts duplicates by design
(keda#6416), the second is a guess at a percentage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from keda.demand import Demand, read
from keda.objects import Calculation, ScaledJob, Strategy


@dataclass(frozen=True, slots=True)
class Queue:
    """What one trigger, or all of them together, ask for.

    Attributes:
        active: whether anything may start at all.
        length: entries in the queue; no poll creates more Jobs than this.
        scale: Jobs the queue is worth, at most the headroom.
    """

    active: bool
    length: float
    scale: float


def queue(job: ScaledJob, demand: Demand) -> Queue:
    """Combine the triggers of a ScaledJob (IsScaledJobActive)."""
    asks = []
    for trigger in job.triggers:
        reading = read(trigger, demand)
        scale = min(reading.count / trigger.target, job.headroom)
        asks.append(Queue(reading.active, reading.count, scale))
    combined = _combine(job.calculation, [ask for ask in asks if ask.active])
    return Queue(
        active=combined.active or job.min_replicas > 0,
        length=math.ceil(combined.length),
        scale=math.ceil(min(combined.scale, job.headroom)),
    )


def _combine(calculation: Calculation, active: Sequence[Queue]) -> Queue:
    if not active:
        return Queue(active=False, length=0, scale=0)
    match calculation:
        case Calculation.MAX:
            return max(active, key=lambda ask: ask.length)
        case Calculation.MIN:
            return min(active, key=lambda ask: ask.length)
        case Calculation.SUM | Calculation.AVG:
            share = len(active) if calculation is Calculation.AVG else 1
            length = sum(ask.length for ask in active) / share
            return Queue(active=True, length=length, scale=sum(ask.scale for ask in active) / share)
        case _:
            assert_never(calculation)


def wanted(strategy: Strategy, *, scale: int, running: int, pending: int, headroom: int) -> int:
    """Jobs a strategy would add (GetEffectiveMaxScale); may be negative.

    Args:
        strategy: how existing Jobs count.
        scale: Jobs the queue is worth.
        running: unfinished Jobs beyond `minReplicaCount`, those that have not claimed included.
        pending: unfinished Jobs that have not claimed.
        headroom: `maxReplicaCount` - `minReplicaCount`.
    """
    match strategy:
        case Strategy.DEFAULT:
            return scale - running
        case Strategy.ACCURATE:
            return headroom - running if scale + running - pending > headroom else scale - pending
        case _:
            assert_never(strategy)


def jobs_to_create(job: ScaledJob, demand: Demand, *, running: int, pending: int) -> int:
    """Decide one poll (RequestJobScale, getScalingDecision, createJobs).

    Args:
        job: the manifest.
        demand: what waits on its lane.
        running: Jobs not finished, pending ones included.
        pending: those of them whose pod still looks Pending, which here means: has not claimed.
    """
    ask = queue(job, demand)
    if not ask.active:
        return 0
    if running < job.min_replicas:
        return job.min_replicas - running
    more = wanted(
        job.strategy,
        scale=int(ask.scale),
        running=running - job.min_replicas,
        pending=pending,
        headroom=job.headroom,
    )
    return min(int(ask.length), max(more, 0))
