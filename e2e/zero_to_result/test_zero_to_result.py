"""From zero to a result and back to zero, by the real operator: the warm pool, and a Job."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.support.installation import Installation, wait_for
from executor import Outcome
from executor.sync import Client

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def client(installation: Installation) -> Iterator[Client]:
    with installation.redis_url("caller") as url, Client(url) as client:
        yield client


def seconds(client: Client, **fields: Any) -> float:
    """XADD to result, by the server's clock: the ids of the two entries are its milliseconds."""
    result = client.run("print(6 * 7)", wait_timeout=60, **fields)
    assert (result.outcome, result.stdout, result.attempt) == (Outcome.SUCCEEDED, "42\n", 1), result
    return (result.queued_ms + result.duration_ms) / 1000


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--runs"))


def report(name: str, times: list[float]) -> None:
    print(f"\n{name}: {len(times)} runs from zero, p50 {statistics.median(times):.2f} s, max {max(times):.2f} s")


def test_the_warm_pool_wakes_answers_and_goes_back_to_zero(
    installation: Installation, client: Client, runs: int
) -> None:
    times = []
    for _ in range(runs):
        wait_for(lambda: installation.pool_pods() == [], "the pool is at zero", 120)
        times.append(seconds(client))
    wait_for(lambda: installation.pool_pods() == [], "the pool is at zero", 120)
    report("warm pool", times)


def test_each_evaluation_of_a_job_lane_gets_one_job(installation: Installation, client: Client, runs: int) -> None:
    before = {job["metadata"]["name"] for job in installation.jobs()}
    times = [seconds(client, expected_duration=60) for _ in range(runs)]
    made = [job for job in installation.jobs() if job["metadata"]["name"] not in before]
    wait_for(lambda: all(job["status"].get("succeeded") for job in installation.jobs()), "every Job is complete", 60)
    assert len(made) == runs
    report("job", times)
