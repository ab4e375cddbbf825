"""Each class of resources has a lane and Jobs of its own; a Job's pod may have a stronger wall."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from e2e.support.installation import Installation, wait_for
from executor import Outcome
from executor.sync import Client

pytestmark = pytest.mark.timeout(300)

MIB = 1024 * 1024
ONE_GIB = "block = bytearray(1 << 30); print(len(block))"


@pytest.fixture
def client(installation: Installation) -> Iterator[Client]:
    with installation.redis_url("admin") as url, Client(url) as client:
        yield client


def test_what_is_too_large_for_a_class_is_told_the_class_that_has_it(client: Client) -> None:
    result = client.run(ONE_GIB, wait_timeout=60, limits={"memory": 1280 * MIB})

    assert (result.outcome, result.field) == (Outcome.REJECTED, "limits.memory")
    assert result.error.endswith("use class high-memory")


def test_high_memory_holds_what_cpu_does_not(client: Client) -> None:
    small = client.run(ONE_GIB, wait_timeout=60)
    large = client.run(ONE_GIB, wait_timeout=60, **{"class": "high-memory"})

    assert small.outcome is Outcome.OUT_OF_MEMORY
    assert (large.outcome, large.stdout) == (Outcome.SUCCEEDED, f"{1 << 30}\n")
    assert large.worker.startswith("job-high-memory-")
    assert large.max_rss > 1 << 30


def test_a_gpu_job_waits_for_a_node_with_a_device(installation: Installation, client: Client) -> None:
    handle = client.submit("print(1)", **{"class": "gpu"})
    (pod,) = wait_for(
        lambda: installation.kubectl.list("pods", "-l", "executor.ai-orchestrator.io/lane=job.gpu"), "it has a pod"
    )

    assert pod["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert "nvidia.com/gpu" in [one.get("key") for one in pod["spec"]["tolerations"]]
    assert handle.cancel() == ("cancelled", "")


def test_a_runtime_class_reaches_the_pods_of_jobs(installation: Installation, client: Client) -> None:
    name = installation.kubectl.namespace
    made = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "runc"}
    installation.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    try:
        change = {"spec": {"jobTargetRef": {"template": {"spec": {"runtimeClassName": name}}}}}
        installation.kubectl("patch", "scaledjob", "job-cpu", "--type=merge", "-p", json.dumps(change))
        result = client.run("print(1)", wait_timeout=60, expected_duration=60)
        pod = installation.kubectl.get("pod", result.worker)
    finally:
        installation.kubectl("delete", "runtimeclass", name)

    assert result.outcome is Outcome.SUCCEEDED
    assert pod["spec"]["runtimeClassName"] == name
