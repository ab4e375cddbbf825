"""One evaluation, one Job: none too many, and as many more as pods crash."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.support.installation import Installation, wait_for
from executor import Outcome
from executor.sync import Client

EVALUATIONS = 200
CRASHES = 20

pytestmark = pytest.mark.timeout(1800)


@contextmanager
def every_job(installation: Installation) -> Iterator[set[str]]:
    """Names of all Jobs that are made meanwhile, the ones KEDA's history limit removes included."""
    before = {job["metadata"]["name"] for job in installation.jobs()}
    names: set[str] = set()
    watch = installation.kubectl.start("get", "jobs", "--watch", "--output-watch-events", "-o", "name")

    def collect() -> None:
        assert watch.stdout is not None
        for line in watch.stdout:
            if "job.batch/" in line:
                names.add(line.split("job.batch/")[1].strip())
            names.difference_update(before)

    reader = threading.Thread(target=collect)
    reader.start()
    try:
        yield names
    finally:
        watch.terminate()
        reader.join()
        watch.communicate()


def test_two_hundred_evaluations_are_two_hundred_jobs(installation: Installation) -> None:
    with installation.redis_url("caller") as url, Client(url) as client, every_job(installation) as jobs:
        handles = client.submit_many([{"code": f"print({n})", "expected_duration": 60} for n in range(EVALUATIONS)])
        outcomes = Counter(handle.wait(600).outcome for handle in handles)
        wait_for(installation.nothing_runs, "every Job has ended", 120)
    print(f"\n{EVALUATIONS} evaluations: {len(jobs)} Jobs, {len(jobs) - EVALUATIONS} wasted")

    assert outcomes == {Outcome.SUCCEEDED: EVALUATIONS}
    assert len(jobs) == EVALUATIONS


def test_a_pod_that_crashes_costs_one_job_and_no_result(installation: Installation) -> None:
    code = "import time; time.sleep(6); print('done')"  # longer than it takes to see it run and to delete its pod
    crashed: set[str] = set()
    with installation.redis_url("caller") as url, Client(url) as client, every_job(installation) as jobs:
        handles = client.submit_many([{"code": code, "expected_duration": 60}] * EVALUATIONS)
        while len(crashed) < CRASHES:
            name = wait_for(lambda: _running_pod(installation, crashed), "a pod runs")
            installation.kubectl("delete", "pod", name, "--grace-period=1", "--wait=false")
            crashed.add(name)  # a second is not enough for what runs: it is killed, and handed back
        results = [handle.wait(600) for handle in handles]
        wait_for(installation.nothing_runs, "every Job has ended", 120)
    outcomes = Counter(result.outcome for result in results)
    again = sum(result.attempt - 1 for result in results)
    print(
        f"\n{EVALUATIONS} evaluations, {CRASHES} pods killed: {len(jobs)} Jobs, {again} attempts more than evaluations"
    )

    assert outcomes == {Outcome.SUCCEEDED: EVALUATIONS}
    assert len({result.id for result in results}) == EVALUATIONS
    assert again == CRASHES
    assert len(jobs) == EVALUATIONS + CRASHES


def _running_pod(installation: Installation, crashed: set[str]) -> str | None:
    """A pod whose evaluation container runs, so that its entry is claimed."""
    for pod in installation.kubectl.list("pods", "-l", "app.kubernetes.io/name=executor-job"):
        name = pod["metadata"]["name"]
        statuses = pod["status"].get("containerStatuses", [])
        if name not in crashed and any("running" in status["state"] for status in statuses):
            return str(name)
    return None
