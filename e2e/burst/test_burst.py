"""A burst on the warm pool: out to the maximum and back to zero, with pods taken away in the middle of it."""

from __future__ import annotations

from collections import Counter

import pytest

from e2e.support.installation import Installation, wait_for
from e2e.support.traces import timelines
from executor import Outcome
from executor.sync import Client

EVALUATIONS = 300
MOST_PODS = 4
"""`maxReplicaCount` of e2e/overlay."""

pytestmark = pytest.mark.timeout(900)


def _ready(installation: Installation) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in installation.pool_pods()
        if any(one["ready"] for one in pod["status"].get("containerStatuses", []))
        and "deletionTimestamp" not in pod["metadata"]
    ]


def test_a_burst_loses_nothing_when_pods_come_and_go(installation: Installation) -> None:
    code = "import time; time.sleep(1.5); print('done')"  # long enough that the HPA sees all of them waiting
    with installation.redis_url("caller") as url, Client(url) as client:
        handles = client.submit_many([{"code": code}] * EVALUATIONS)
        wait_for(lambda: len(_ready(installation)) == MOST_PODS, "the pool is at its maximum", 90)
        installation.kubectl("delete", "pod", _ready(installation)[0], "--wait=false")
        installation.kubectl("rollout", "restart", "deployment/worker-warm-python")
        results = [handle.wait(300) for handle in handles]
        wait_for(lambda: installation.pool_pods() == [], "the pool is at zero again", 120)
    with installation.redis_url() as url, Client(url) as client:
        entries = client.call(_committed(url, installation))
    workers = Counter(result.worker for result in results)
    again = sum(result.attempt - 1 for result in results)
    print(f"\n{EVALUATIONS} evaluations on {len(workers)} pods, {again} of them handed over")

    assert Counter(result.outcome for result in results) == {Outcome.SUCCEEDED: EVALUATIONS}
    assert entries == {result.id: 1 for result in results}
    assert len(workers) > MOST_PODS  # the restarted ones as well
    timelines(installation, results)


async def _committed(url: str, installation: Installation) -> dict[str, int]:
    """How often each id stands in the stream of results."""
    cell = installation.cell(url)
    rows = await cell.channel("e2e").call("XRANGE", installation.keys.results(), "-", "+")
    await cell.close()
    fields = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in rows]
    return dict(Counter(row[b"id"].decode() for row in fields))
