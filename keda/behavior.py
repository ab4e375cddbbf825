"""How fast an HPA may go: stabilization windows and rate policies as pure functions.

Follows normalizeDesiredReplicasWithBehaviors of Kubernetes (pkg/controller/podautoscaler/horizontal.go). What that
controller remembers between two syncs is a `History` here, passed in and returned; instants are seconds of any
monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from keda.objects import Behavior, PolicyType, ScalingPolicy, ScalingRules, SelectPolicy


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the metric asked for at an instant, before any limit."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Change:
    """Replicas added (positive) or removed (negative) by the HPA at an instant."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class History:
    """What an HPA remembers; entries too old to matter are dropped when new ones come."""

    recommendations: tuple[Recommendation, ...] = ()
    changes: tuple[Change, ...] = ()

    def observed(self, current: int, now: float) -> History:
        """The first sync recommends what it finds (recordInitialRecommendation)."""
        return self if self.recommendations else replace(self, recommendations=(Recommendation(now, current),))

    def recommended(self, behavior: Behavior, replicas: int, now: float) -> History:
        """Remember a recommendation for as long as the longer window."""
        oldest = now - max(behavior.up.window, behavior.down.window)
        kept = tuple(past for past in self.recommendations if past.at >= oldest)
        return replace(self, recommendations=(*kept, Recommendation(now, replicas)))

    def changed(self, behavior: Behavior, replicas: int, now: float) -> History:
        """Remember a scaling step for as long as the longest policy period (storeScaleEvent)."""
        policies = behavior.up.policies + behavior.down.policies
        oldest = now - max((policy.period for policy in policies), default=0)
        kept = tuple(past for past in self.changes if past.at >= oldest)
        return replace(self, changes=(*kept, Change(now, replicas)))


def stabilize(behavior: Behavior, history: History, *, current: int, desired: int, now: float) -> int:
    """Keep a metric that flickers from moving the pool (stabilizeRecommendationWithBehaviors).

    Up goes no higher than the lowest recommendation of its window, down no lower than the highest of its own;
    between the two the pool stays as it is.
    """
    recent = history.recommendations
    floor = min([desired, *(past.replicas for past in recent if past.at > now - behavior.up.window)])
    ceiling = max([desired, *(past.replicas for past in recent if past.at > now - behavior.down.window)])
    return min(max(current, floor), ceiling)


def limit(
    behavior: Behavior, history: History, *, current: int, desired: int, minimum: int, maximum: int, now: float
) -> int:
    """Keep a step within the policies and the bounds (convertDesiredReplicasWithBehaviorRate)."""
    if desired > current:
        allowed = _select(behavior.up, [_up(policy, history, current, now) for policy in behavior.up.policies], current)
        return min(desired, maximum, max(allowed, current))
    if desired < current:
        proposals = [_down(policy, history, current, now) for policy in behavior.down.policies]
        # For scaling down, the largest change is the lowest count.
        allowed = -_select(behavior.down, [-proposal for proposal in proposals], -current)
        return max(desired, minimum, min(allowed, current))
    return desired


def _select(rules: ScalingRules, proposals: list[int], current: int) -> int:
    if rules.select is SelectPolicy.DISABLED or not proposals:
        return current
    return min(proposals) if rules.select is SelectPolicy.MIN else max(proposals)


def _up(policy: ScalingPolicy, history: History, current: int, now: float) -> int:
    start = _replicas_at_period_start(policy, history, current, now)
    if policy.type is PolicyType.PODS:
        return start + policy.value
    return math.ceil(start * (1 + policy.value / 100))  # rounded up, or one replica would never become two


def _down(policy: ScalingPolicy, history: History, current: int, now: float) -> int:
    start = _replicas_at_period_start(policy, history, current, now)
    if policy.type is PolicyType.PODS:
        return start - policy.value
    return math.trunc(start * (1 - policy.value / 100))


def _replicas_at_period_start(policy: ScalingPolicy, history: History, current: int, now: float) -> int:
    return current - sum(change.replicas for change in history.changes if change.at > now - policy.period)
