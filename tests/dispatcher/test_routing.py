"""The hybrid rule: short plain work of a trusted tenant shares a warm pool, everything else gets a Job of its own."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.routing import WARM_SECONDS, lanes, route
from executor.request import CLASSES, EvaluationRequest, from_map

WARM, JOB = "warm.python", "job.cpu"


def request_with(**values: Any) -> EvaluationRequest:
    return from_map({"code": "pass", **values})


@pytest.mark.parametrize(
    ("values", "trusted", "timeout", "lane"),
    [
        pytest.param({}, True, 10.0, WARM, id="short and trusted"),
        pytest.param({}, False, 10.0, JOB, id="short, not trusted"),
        pytest.param({}, True, 29.999, WARM, id="just under the edge"),
        pytest.param({}, True, 30.0, JOB, id="on the edge"),
        pytest.param({}, True, 30.001, JOB, id="just over the edge"),
        pytest.param({}, True, 3600.0, JOB, id="long"),
        pytest.param({"expected_duration": 1.0}, True, 3600.0, WARM, id="long timeout, short expectation"),
        pytest.param({"expected_duration": 29.999}, True, 3600.0, WARM, id="expectation just under the edge"),
        pytest.param({"expected_duration": 30.0}, True, 10.0, JOB, id="expectation on the edge, short timeout"),
        pytest.param({"expected_duration": 1.0}, False, 10.0, JOB, id="expectation does not make trust"),
        pytest.param({"pool": "python"}, True, 10.0, WARM, id="pool by name"),
        pytest.param({"pool": "python"}, False, 10.0, JOB, id="a pool needs trust"),
        pytest.param({"timeout": 60.0}, True, 10.0, WARM, id="the granted timeout counts"),
    ],
)
def test_the_hybrid_rule(values: dict[str, Any], trusted: bool, timeout: float, lane: str) -> None:
    assert route(request_with(**values), trusted=trusted, timeout=timeout) == lane


def test_the_edge_is_thirty_seconds() -> None:
    assert WARM_SECONDS == 30.0


@pytest.mark.parametrize("resource_class", ["gpu", "high-memory"])
def test_another_class_never_shares_a_pool(resource_class: str) -> None:
    assert route(request_with(**{"class": resource_class}), trusted=True, timeout=1.0) == f"job.{resource_class}"


def test_every_lane_that_can_be_chosen_is_known() -> None:
    chosen = {
        route(request_with(**{"class": name}), trusted=trusted, timeout=timeout)
        for name in CLASSES
        for trusted in (True, False)
        for timeout in (1.0, 60.0)
    }

    assert chosen == set(lanes())
