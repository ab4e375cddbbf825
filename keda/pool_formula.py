"""How many replicas a ScaledObject has: the halves of KEDA's operator and of Kubernetes' HPA as pure functions.

`poll` is the operator, each `pollingInterval`: 0 to 1, and to zero after the cooldown
(pkg/scaling/executor/scale_scaledobjects.go of KEDA 2.20.2). `sync` is the HPA, each sync period: 1 to n, inert at
zero (pkg/controller/podautoscaler/horizontal.go and replica_calculator.go of Kubernetes). What they remember is a
`PoolState`, passed in and returned; instants are seconds of any monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from keda.behavior import History, limit, stabilize
from keda.demand import Demand, read
from keda.objects import ScaledObject

TOLERANCE: Final = Fraction(1, 10)
"""The HPA moves only when the metric is off its target by more than this (--horizontal-pod-autoscaler-tolerance)."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """What is remembered of one pool.

    Attributes:
        created_at: when the object was first seen.
        last_active: the last poll that found it active; None until there was one.
        history: what the HPA remembers.
    """

    created_at: float
    last_active: float | None = None
    history: History = field(default_factory=History)


@dataclass(frozen=True, slots=True)
class Decision:
    """Replicas from now on, why, and what to remember."""

    replicas: int
    reason: str
    state: PoolState


@dataclass(frozen=True, slots=True)
class _Metric:
    """What the HPA sees of one external metric: value and target per replica."""

    value: Fraction
    target: float


def is_active(pool: ScaledObject, demand: Demand) -> bool:
    """Whether there is work (getScaledObjectState): by the formula if there is one, else by any trigger."""
    if pool.modifiers is not None:
        return _metrics(pool, demand)[0].value > pool.modifiers.activation
    return any(read(trigger, demand).active for trigger in pool.triggers)


def poll(pool: ScaledObject, state: PoolState, demand: Demand, *, replicas: int, now: float) -> Decision:
    """Take the operator's decision of one poll (RequestScale).

    Going to zero is one step from whatever the HPA left: the cooldown alone gates it.
    """
    if is_active(pool, demand):
        awake = replicas or max(pool.min_replicas, 1)
        return Decision(awake, "activated", replace(state, last_active=now))
    if replicas > 0 and pool.min_replicas == 0:
        since, wait = (
            (state.created_at, pool.initial_cooldown)
            if state.last_active is None
            else (state.last_active, pool.cooldown)
        )
        return Decision(0 if since + wait < now else replicas, "idle past the cooldown", state)
    return Decision(max(replicas, pool.min_replicas), "below minReplicaCount", state)


def sync(pool: ScaledObject, state: PoolState, demand: Demand, *, replicas: int, now: float) -> Decision:
    """Take the HPA's decision of one sync (reconcileAutoscaler); at zero replicas there is none."""
    history = state.history.observed(replicas, now)
    minimum = max(pool.min_replicas, 1)
    if replicas == 0:
        return Decision(0, "", replace(state, history=history))
    if replicas > pool.max_replicas:
        reason, new = "above maxReplicaCount", pool.max_replicas
    elif replicas < minimum:
        reason, new = "below minReplicaCount", minimum
    else:
        desired = max(desired_replicas(metric.value, metric.target, replicas) for metric in _metrics(pool, demand))
        stable = stabilize(pool.behavior, history, current=replicas, desired=desired, now=now)
        history = history.recommended(pool.behavior, desired, now)
        new = limit(
            pool.behavior,
            history,
            current=replicas,
            desired=stable,
            minimum=minimum,
            maximum=pool.max_replicas,
            now=now,
        )
        reason = "above target" if new > replicas else "below target"
    if new != replicas:
        history = history.changed(pool.behavior, new - replicas, now)
    return Decision(new, reason, replace(state, history=history))


def desired_replicas(value: Fraction, target: float, replicas: int) -> int:
    """Replicas for an AverageValue metric (GetExternalPerPodMetricReplicas), before any bound.

    A negative metric reads as an overflow there and asks for everything, so it does here.
    """
    milli_value = 1000 * value if value >= 0 else Fraction(2**63 - 1)
    milli_target = round(1000 * target)
    if 1 - TOLERANCE <= milli_value / (milli_target * replicas) <= 1 + TOLERANCE:
        return replicas
    return min(math.ceil(milli_value / milli_target), 2**31 - 1)


def _metrics(pool: ScaledObject, demand: Demand) -> list[_Metric]:
    readings = [read(trigger, demand) for trigger in pool.triggers]
    if pool.modifiers is None:
        return [
            _Metric(Fraction(reading.count), trigger.target)
            for reading, trigger in zip(readings, pool.triggers, strict=True)
        ]
    values = {trigger.name: reading.count for trigger, reading in zip(pool.triggers, readings, strict=True)}
    # A composite metric keeps three decimals, cut off, not rounded (pkg/scaling/modifiers/formula.go).
    value = Fraction(math.trunc(1000 * pool.modifiers.formula.value(values)), 1000)
    return [_Metric(value, pool.modifiers.target)]
