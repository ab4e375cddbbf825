"""What scaling needs of a ScaledObject or a ScaledJob, as frozen values.

Durations are seconds, as in the manifests; an absent field already holds KEDA's or Kubernetes' own default.
Reading and checking YAML is `keda.manifests`; deciding with these values is `keda.job_formula`,
`keda.pool_formula` and `keda.behavior`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from keda.expression import Formula


class TriggerMode(StrEnum):
    """What a redis-streams trigger counts (pkg/scalers/redis_streams_scaler.go, Validate)."""

    LAG = "lag"
    """Entries no consumer has read yet: `lagCount` is set and not 0."""
    PENDING = "pending"
    """Entries read and not acknowledged: `lagCount` is absent or 0."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One redis-streams trigger.

    Attributes:
        name: the name a formula knows it by; empty when the manifest gives none.
        mode: what it counts.
        target: entries per replica (HPA) or per Job (ScaledJob).
        activation: the trigger is active when its count is greater than this, never when equal.
    """

    name: str
    mode: TriggerMode
    target: int
    activation: int = 0


class PolicyType(StrEnum):
    """Unit of a scaling policy."""

    PODS = "Pods"
    PERCENT = "Percent"


class SelectPolicy(StrEnum):
    """Which policy counts when there are several."""

    MAX = "Max"
    """The one that allows the largest change."""
    MIN = "Min"
    """The one that allows the smallest change."""
    DISABLED = "Disabled"
    """No change in this direction."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most `value` pods, or percent of the pods, within `period` seconds."""

    type: PolicyType
    value: int
    period: int


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """One direction of an HPA behavior: how long to look back, how fast to go."""

    window: int
    policies: tuple[ScalingPolicy, ...]
    select: SelectPolicy = SelectPolicy.MAX


DEFAULT_SCALE_UP: Final = ScalingRules(
    window=0,
    policies=(ScalingPolicy(PolicyType.PODS, 4, 15), ScalingPolicy(PolicyType.PERCENT, 100, 15)),
)
"""Kubernetes' own (pkg/apis/autoscaling/v2/defaults.go): 4 pods or a doubling, whichever is more, each 15 s."""

DEFAULT_SCALE_DOWN: Final = ScalingRules(window=300, policies=(ScalingPolicy(PolicyType.PERCENT, 100, 15),))
"""Kubernetes' own: everything at once, once the highest recommendation of 300 s allows it."""


@dataclass(frozen=True, slots=True)
class Behavior:
    """How fast the HPA may go up and down."""

    up: ScalingRules = DEFAULT_SCALE_UP
    down: ScalingRules = DEFAULT_SCALE_DOWN


@dataclass(frozen=True, slots=True)
class ScalingModifiers:
    """One metric made of several triggers.

    Attributes:
        formula: arithmetic over trigger names.
        target: what one replica bears of the metric.
        activation: the pool is active when the metric is greater than this.
    """

    formula: Formula
    target: float
    activation: float = 0.0


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """A warm pool: a Deployment that KEDA takes between 0 and 1, and the HPA between 1 and n.

    Attributes:
        name: metadata.name.
        lane: what follows `executor:lane:` in the trigger's stream.
        group: consumer group of the lane.
        triggers: at least one, all on the same lane.
        polling_interval: seconds between two looks of the KEDA operator.
        min_replicas: replicas an idle pool keeps.
        max_replicas: replicas it never exceeds.
        cooldown: seconds since the last active poll before an idle pool goes to zero.
        initial_cooldown: the same, for a pool that has never been active.
        modifiers: the formula; without one each trigger proposes and the largest proposal wins.
        behavior: speed limits of the HPA.
    """

    name: str
    lane: str
    group: str
    triggers: tuple[Trigger, ...]
    polling_interval: int = 30
    min_replicas: int = 0
    max_replicas: int = 100
    cooldown: int = 300
    initial_cooldown: int = 0
    modifiers: ScalingModifiers | None = None
    behavior: Behavior = Behavior()


class Strategy(StrEnum):
    """How a ScaledJob counts the Jobs that exist already (pkg/scaling/executor/scale_jobs.go)."""

    DEFAULT = "default"
    """Every running Job is taken off the queue: for a queue that still counts work in progress."""
    ACCURATE = "accurate"
    """Only Jobs that have not claimed yet are: for a queue that no longer counts what was claimed, as lag does."""


class Calculation(StrEnum):
    """How the queues of several triggers become one (pkg/scaling/scaledjob/metrics.go)."""

    MAX = "max"
    MIN = "min"
    AVG = "avg"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class ScaledJob:
    """A lane whose entries each get a one-shot Job.

    Attributes:
        name: metadata.name.
        lane: what follows `executor:lane:` in the trigger's stream.
        group: consumer group of the lane.
        triggers: at least one, all on the same lane.
        polling_interval: seconds between two looks of the KEDA operator.
        min_replicas: spare Jobs kept whatever the queue.
        max_replicas: Jobs at once, spares included.
        strategy: how existing Jobs count.
        calculation: how several triggers become one queue.
    """

    name: str
    lane: str
    group: str
    triggers: tuple[Trigger, ...]
    polling_interval: int = 30
    min_replicas: int = 0
    max_replicas: int = 100
    strategy: Strategy = Strategy.DEFAULT
    calculation: Calculation = Calculation.MAX

    @property
    def headroom(self) -> int:
        """Jobs beyond the spares: what KEDA's code calls MaxReplicaCount()."""
        return self.max_replicas - self.min_replicas


Scaled: TypeAlias = ScaledObject | ScaledJob
"""Anything the autoscaler follows: one lane each."""
