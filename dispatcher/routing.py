"""Which lane a request goes to: a pure function of the request and the tenant's trust.

The hybrid rule: short, plain work of a trusted tenant shares a warm pool and takes milliseconds; anything untrusted,
long, or of another class gets a Job of its own behind a stronger wall.
"""

from __future__ import annotations

from typing import Final

from executor.keys import job_lane, warm_lane
from executor.request import CLASSES, EvaluationRequest

WARM_SECONDS: Final = 30.0
"""Work expected to take this long or longer does not hold a warm slot."""


def route(request: EvaluationRequest, *, trusted: bool, timeout: float) -> str:
    """Choose the lane.

    Args:
        request: valid and authorized.
        trusted: whether its tenant may share a pool.
        timeout: seconds it may run; the expectation when the request has none.
    """
    expected = request.expected_duration if request.expected_duration is not None else timeout
    if trusted and request.resource_class == "cpu" and expected < WARM_SECONDS:
        return warm_lane(request.pool or request.template)
    return job_lane(request.resource_class)


def lanes() -> list[str]:
    """Every lane that requests can be routed to in this version."""
    return [warm_lane("python"), *map(job_lane, CLASSES)]
