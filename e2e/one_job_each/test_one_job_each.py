"""One evaluation, one Job: none too many, and as many more as pods crash."""

from __future__ import annotations

from collections import Counter

import pytest

from e2e.support.installation import Installation, wait_for
from e2e.support.jobs import every_job
from e2e.support.keda import restart_operator
from e2e.support.traces import print_phases, timelines
from executor import Outcome
from executor.sync import Client

EVALUATIONS = 200
CRASHES = 20
DISTURBED = 30

pytestmark = pytest.mark.timeout(1800)


def test_two_hundred_evaluations_are_two_hundred_jobs(installation: Installation) -> None:
    with installation.redis_url("caller") as url, Client(url) as client, every_job(installation) as jobs:
        handles = client.submit_many([{"code": f"print({n})", "expected_duration": 60} for n in range(EVALUATIONS)])
        results = [handle.wait(600) for handle in handles]
        wait_for(installation.nothing_runs, "every Job has ended", 120)
    print(f"\n{EVALUATIONS} evaluations: {len(jobs)} Jobs, {len(jobs) - EVALUATIONS} wasted")

    assert Counter(result.outcome for result in results) == {Outcome.SUCCEEDED: EVALUATIONS}
    assert len(jobs) == EVALUATIONS
    print_phases(timelines(installation, results, ["pod.start"]))


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
    phases = Counter(span["phase"] for timeline in timelines(installation, results) for span in timeline["spans"])
    assert phases["attempt"] == sum(result.attempt > 1 for result in results)  # one span for all that left no result


def test_a_changed_spec_and_a_restart_of_the_operator_kill_nothing(installation: Installation) -> None:
    code = "import time; time.sleep(5); print('done')"
    with installation.redis_url("caller") as url, Client(url) as client, every_job(installation) as jobs:
        handles = client.submit_many([{"code": code, "expected_duration": 60}] * DISTURBED)
        handles[0].wait(120)
        change = '{"spec": {"jobTargetRef": {"ttlSecondsAfterFinished": 299}}}'
        installation.kubectl("patch", "scaledjob", "job-cpu", "--type=merge", "-p", change)
        handles[DISTURBED // 3].wait(120)
        restart_operator(installation.kubectl)
        results = [handle.wait(300) for handle in handles]
        wait_for(installation.nothing_runs, "every Job has ended", 120)
    print(f"\n{DISTURBED} evaluations, a changed spec, a restarted operator: {len(jobs)} Jobs")

    assert Counter((result.outcome, result.attempt) for result in results) == {(Outcome.SUCCEEDED, 1): DISTURBED}
    assert len(jobs) == DISTURBED


def _running_pod(installation: Installation, crashed: set[str]) -> str | None:
    """A pod whose evaluation container runs, so that its entry is claimed."""
    for pod in installation.kubectl.list("pods", "-l", "app.kubernetes.io/name=executor-job"):
        name = pod["metadata"]["name"]
        statuses = pod["status"].get("containerStatuses", [])
        if name not in crashed and any("running" in status["state"] for status in statuses):
            return str(name)
    return None
