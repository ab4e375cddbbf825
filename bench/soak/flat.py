"""When a series counts as flat, and when it is back where it began. Pure.

A series is flat if the median of its last third is above the median of its first third by at most 5 %, or by at most
what its unit is given for noise. Medians of thirds let a spike pass and catch what keeps growing: 5 % from third to
third of ten minutes is some MiB, and a leak of a byte for each evaluation is more than that within a day.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SHARE = 0.05
"""Growth that is always allowed."""
NOISE = {"MiB": 1.0, "keys": 50.0, "entries": 200.0, "descriptors": 4.0, "processes": 3.0, "files": 8.0}
"""Growth that is allowed for small values, by unit."""


@dataclass(frozen=True, slots=True)
class Trend:
    """How a series went.

    Attributes:
        first: median of the first third.
        last: median of the last third.
        hourly: slope of the least-squares line, per hour.
        allowed: growth that still counts as flat.
    """

    first: float
    last: float
    hourly: float
    allowed: float

    @property
    def flat(self) -> bool:
        """Whether it did not grow by more than is allowed."""
        return self.last - self.first <= self.allowed


def trend(series: Sequence[tuple[float, float]], unit: str) -> Trend:
    """Judge a series.

    Args:
        series: seconds and values, at least three.
        unit: of the values.
    """
    values = [value for _, value in series]
    third = len(values) // 3
    first = statistics.median(values[:third])
    slope = statistics.linear_regression([at for at, _ in series], values).slope
    return Trend(first, statistics.median(values[-third:]), slope * 3600, allowed(first, unit))


def allowed(before: float, unit: str) -> float:
    """Growth from a value that counts as none."""
    return max(SHARE * before, NOISE[unit])
