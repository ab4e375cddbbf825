"""From zero to a result and back to zero, by the real operator: the warm pool, and a Job.

Beside each stands what the local autoscaler makes of the same manifests with processes: the difference is the price of
a pod.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from typing import Any

import pytest

from bench.coldstart import from_zero
from bench.stack import bench_stack
from e2e.support.installation import Installation, wait_for
from e2e.support.jobs import every_job
from e2e.support.traces import print_phases, timelines
from executor import EvaluationResult, Outcome, client
from executor.sync import Client

pytestmark = pytest.mark.timeout(1800)

IN_A_JOB: dict[str, float] = {"expected_duration": 60.0}


@pytest.fixture(scope="module")
def caller(installation: Installation) -> Iterator[Client]:
    with installation.redis_url("caller") as url, Client(url) as caller:
        yield caller


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--runs"))


def run(caller: Client, **fields: Any) -> EvaluationResult:
    result = caller.run("print(6 * 7)", wait_timeout=60, **fields)
    assert (result.outcome, result.stdout, result.attempt) == (Outcome.SUCCEEDED, "42\n", 1), result
    return result


def report(name: str, installation: Installation, results: list[EvaluationResult], predicted: list[float]) -> None:
    """Print XADD to commit, by the trace: every phase counts."""
    traces = timelines(installation, results, ["pod.start"])
    times = [trace["total_ms"] / 1000 for trace in traces]
    median, here = statistics.median(times), statistics.median(predicted) / 1000
    print(f"\n{name}: {len(times)} runs from zero, p50 {median:.2f} s, max {max(times):.2f} s")
    print(f"  local autoscaler, same manifests, {len(predicted)} runs: p50 {here:.2f} s; pods cost {median - here:.2f}")
    print_phases(traces)


def predict(runs: int, lane: str, **fields: float) -> list[float]:
    """Milliseconds from zero on this machine alone, of the manifests that the overlay of the scenarios is made of."""

    async def measure() -> list[float]:
        async with client.Client(stack.url, settings=stack.settings) as caller:
            return await from_zero(stack, caller, runs, lane, **fields)

    with bench_stack() as stack, pytest.MonkeyPatch.context() as patch:
        for name, value in stack.environ.items():
            patch.setenv(name, value)  # the fleet hands its own environment to its workers
        patch.delenv("KUBECONFIG")
        stack.start("cli.main", "dispatcher")
        return asyncio.run(measure())


def test_the_warm_pool_wakes_answers_and_goes_back_to_zero(
    installation: Installation, caller: Client, runs: int
) -> None:
    results = []
    for _ in range(runs):
        wait_for(lambda: installation.pool_pods() == [], "the pool is at zero", 120)
        results.append(run(caller))
    wait_for(lambda: installation.pool_pods() == [], "the pool is at zero", 120)
    report("warm pool", installation, results, predict(max(3, runs // 2), "warm.python"))


def test_each_evaluation_of_a_job_lane_gets_one_job(installation: Installation, caller: Client, runs: int) -> None:
    results = []
    with every_job(installation) as made:
        for _ in range(runs):
            results.append(run(caller, **IN_A_JOB))
            wait_for(installation.nothing_runs, "its Job has ended", 60)
    assert len(made) == runs
    report("job", installation, results, predict(max(3, runs // 2), "job.cpu", **IN_A_JOB))
