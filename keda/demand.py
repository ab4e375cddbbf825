"""How much work waits on a lane, and what a redis-streams trigger makes of it.

Not the connection: that is a `DemandSource`, given to the autoscaler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from keda.objects import Trigger, TriggerMode

NIL_LAG: Final = -1
"""What go-redis makes of a nil lag (redis/go-redis#3369): greater than no activation, so nothing ever starts."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One look at a consumer group.

    Attributes:
        lag: entries nobody has read, or None where the server cannot tell (XINFO GROUPS says nil).
        pending: entries read and not acknowledged.
    """

    lag: int | None
    pending: int


class DemandSource(Protocol):
    """Port: where the demand is read."""

    async def demand(self, stream: str, group: str) -> Demand:
        """Look at a group once; raise `executor.errors.TransientError` while the server is away."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What one trigger reports to KEDA: a count, never negative, and whether it is active."""

    count: int
    active: bool


def read(trigger: Trigger, demand: Demand) -> Reading:
    """Evaluate a trigger (redis_streams_scaler.go, GetMetricsAndActivity).

    Activity compares the raw count, so a nil lag is inactive even at activation 0; the metric is clamped to zero
    afterwards (pkg/scalers/scaler.go, keda#7880).
    """
    lag = NIL_LAG if demand.lag is None else demand.lag
    raw = lag if trigger.mode is TriggerMode.LAG else demand.pending
    return Reading(count=max(raw, 0), active=raw > trigger.activation)
