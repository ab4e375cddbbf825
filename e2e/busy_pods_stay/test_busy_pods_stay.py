"""A worker that runs something says so to the ReplicaSet, by the dispatcher's hand."""

from __future__ import annotations

import pytest

from e2e.support.installation import Installation, wait_for
from executor import Outcome
from executor.sync import Client
from k8s.deletion_cost import ANNOTATION

pytestmark = pytest.mark.timeout(300)


def test_a_busy_pod_costs_more_than_an_idle_one(installation: Installation) -> None:
    def costs() -> list[str]:
        return [pod["metadata"].get("annotations", {}).get(ANNOTATION, "0") for pod in installation.pool_pods()]

    with installation.redis_url("caller") as url, Client(url) as client:
        # It runs while a heartbeat, a janitor's pass and a write to the API server follow each other: some 10 s.
        handle = client.submit("import time; time.sleep(25)", timeout=29)
        wait_for(lambda: costs() == ["1"], "the busy pod costs 1", 25)
        assert handle.wait(60).outcome is Outcome.SUCCEEDED
