"""Lag is never unknown for longer than a second, whatever happens to what it counts, and nothing is stuck at zero.

KEDA takes an unknown lag for nothing to do: the trap that catches every user of KEDA with streams.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.support.installation import Installation, wait_for
from e2e.support.lag import LagWatch, lag_watch
from executor import EvaluationResult, Outcome
from executor.sync import Client

pytestmark = pytest.mark.timeout(600)

WARM, JOB = "warm.python", "job.cpu"
MOST_NIL = 1.0


@pytest.fixture
def watch(installation: Installation) -> Iterator[LagWatch]:
    """Fails a test during which a lag was unknown for too long, or nobody looked."""
    with lag_watch(installation, WARM, JOB) as watch:
        yield watch
    print(f"\nlag: {sum(watch.looks.values())} looks, unknown for {watch.longest_nil:.2f} s at most")
    assert all(watch.looks[lane] > 20 for lane in watch.lanes)
    assert watch.longest_nil <= MOST_NIL


@pytest.fixture(autouse=True)
def never_stuck(installation: Installation) -> Iterator[None]:
    """A test begins at zero; everything goes back there after it, and still wakes."""
    wait_for(lambda: installation.pool_pods() == [] and installation.nothing_runs(), "all is at zero", 120)
    yield
    wait_for(lambda: installation.pool_pods() == [], "the pool is at zero", 120)
    with installation.redis_url("caller") as url, Client(url) as client:
        for fields in ({}, {"expected_duration": 60}):
            assert succeeded(client.run("print('awake')", wait_timeout=60, **fields))


def succeeded(result: EvaluationResult) -> bool:
    return result.outcome is Outcome.SUCCEEDED


def test_when_evaluations_end_out_of_order(installation: Installation, watch: LagWatch) -> None:
    with installation.redis_url("caller") as url, Client(url) as client:
        slow = client.submit("import time; time.sleep(6)")  # longer than a hundred quick ones take
        quick = client.submit_many([{"code": "print(1)"}] * 100)
        job = client.submit("import time; time.sleep(4)", expected_duration=60)  # as above, beside five
        others = client.submit_many([{"code": "print(1)", "expected_duration": 60}] * 5)
        ends = [handle.wait(60) for handle in (*quick, *others, job, slow)]

    assert all(map(succeeded, ends))
    assert max(end.finished_at for end in ends[:100]) < ends[-1].finished_at


def test_when_some_are_cancelled(installation: Installation, watch: LagWatch) -> None:
    with installation.redis_url("admin") as url, Client(url) as client:
        for fields in ({}, {"expected_duration": 60}):
            handles = client.submit_many([{"code": "print(1)", **fields}] * 8)
            answers = [handle.cancel()[0] for handle in handles[::2]]
            ends = [handle.wait(60) for handle in handles]
            assert answers == ["cancelled"] * 4
            assert [end.outcome for end in ends] == [Outcome.CANCELLED, Outcome.SUCCEEDED] * 4
        # Longer than it takes to see its output and to cancel it.
        running = client.submit("print('on', flush=True); import time; time.sleep(25)", timeout=29, stream=True)
        assert next(running.stream()).text == "on\n"
        assert running.cancel()[0] == "cancelling"
        assert running.wait(30).outcome is Outcome.CANCELLED


def test_when_a_pod_is_killed(installation: Installation, watch: LagWatch) -> None:
    with installation.redis_url("caller") as url, Client(url) as client:
        # Longer than the second that the pod is given to end.
        handles = client.submit_many([{"code": "import time; time.sleep(5)"}] * 4)
        pod = wait_for(lambda: _busy_pod(installation), "a pod runs something", 30)
        installation.kubectl("delete", "pod", pod, "--grace-period=1", "--wait=false")
        ends = [handle.wait(90) for handle in handles]

    assert all(map(succeeded, ends))


def test_when_the_queue_server_restarts(installation: Installation, watch: LagWatch) -> None:
    with installation.redis_url("caller") as url, Client(url) as client:
        # Longer than it takes to see a busy pod, so that the server goes away under work.
        ids = [one.id for one in client.submit_many([{"code": "import time; time.sleep(3); print(1)"}] * 10)]
        wait_for(lambda: _busy_pod(installation), "a pod runs something", 30)
    restarts = _restarts(installation)
    installation.kubectl("exec", "executor-redis-0", "-c", "redis", "--", "sh", "-c", "kill -TERM 1")
    wait_for(lambda: _restarts(installation) > restarts, "the server is started again", 60)
    installation.kubectl("wait", "--for=condition=Ready", "pod/executor-redis-0", "--timeout=60s")

    with installation.redis_url("caller") as url, Client(url) as client:
        ends = [client.wait(one, 90) for one in ids]
    assert all(map(succeeded, ends))


def _busy_pod(installation: Installation) -> str | None:
    """A pod of the pool that has begun to serve."""
    for pod in installation.pool_pods():
        if any(one["ready"] for one in pod["status"].get("containerStatuses", [])):
            return str(pod["metadata"]["name"])
    return None


def _restarts(installation: Installation) -> int:
    pod = installation.kubectl.get("pod", "executor-redis-0")
    return sum(one["restartCount"] for one in pod["status"]["containerStatuses"])
