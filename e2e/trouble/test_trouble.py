"""Bad days: what is wrong stands in the result, and every evaluation has one by the end of its life."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.support.installation import Installation, wait_for
from e2e.support.keda import restart_operator, without_operator
from executor import EvaluationResult, Outcome
from executor.sync import Client
from tests.support.command import execute

MAX_AGE = 20
"""Seconds from admission to a result, here; a day as shipped."""
AGENT_IMAGE = "/spec/jobTargetRef/template/spec/initContainers/0/image"
IN_A_JOB = {"expected_duration": 60}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def short_lives(installation: Installation) -> None:
    change = json.dumps({"data": {"EXECUTOR_MAX_AGE": str(MAX_AGE)}})
    installation.kubectl("patch", "configmap", "executor-config", "--type=merge", "-p", change)
    installation.kubectl("rollout", "restart", "deployment/executor-dispatcher")
    installation.kubectl("rollout", "status", "deployment/executor-dispatcher", "--timeout=120s")


@pytest.fixture
def client(installation: Installation) -> Iterator[Client]:
    with installation.redis_url("caller") as url, Client(url) as client:
        yield client


def lost(client: Client, **fields: Any) -> EvaluationResult:
    result = client.run("print(1)", wait_timeout=MAX_AGE + 20, **fields)
    assert result.outcome is Outcome.LOST
    assert f"within {MAX_AGE} s of its admission" in result.error
    return result


def replace_in_job(installation: Installation, name: str, path: str, value: str) -> None:
    patch = json.dumps([{"op": "replace", "path": path, "value": value}])
    installation.kubectl("patch", "scaledjob", name, "--type=json", "-p", patch)


def test_a_class_that_no_node_has(client: Client) -> None:
    result = lost(client, **{"class": "gpu"})

    assert "Unschedulable: 0/" in result.error


def test_an_image_that_cannot_be_pulled(installation: Installation, client: Client) -> None:
    replace_in_job(installation, "job-high-memory", AGENT_IMAGE, "registry.invalid/none:1")

    result = lost(client, **{"class": "high-memory"})

    assert "pod job-high-memory-" in result.error
    assert "ImagePull" in result.error


def test_a_quota_that_is_used_up(installation: Installation, client: Client) -> None:
    installation.kubectl("create", "quota", "none", "--hard=pods=0")
    try:
        result = lost(client, **IN_A_JOB)
    finally:
        installation.kubectl("delete", "quota", "none")

    assert "Job job-cpu-" in result.error
    assert "has no pod: `kubectl describe job" in result.error
    job = result.error.split("Job ")[1].split()[0]
    assert "exceeded quota: none" in installation.kubectl("describe", "job", job)


def test_a_password_that_keda_does_not_have(installation: Installation, client: Client) -> None:
    right = installation.kubectl.get("secret", "executor-redis")["data"]["password"]
    _set_password(installation, "d3Jvbmc=")
    try:
        restart_operator(installation.kubectl)  # it keeps the connection that it has, whatever becomes of the Secret
        wait_for(lambda: not _is_ready(installation), "KEDA cannot look", 60)
        result = lost(client, **IN_A_JOB)
        described = installation.kubectl("describe", "scaledjob", "job-cpu")
    finally:
        _set_password(installation, right)

    assert "no pod was made for the lane" in result.error
    assert "WRONGPASS" in described
    restart_operator(installation.kubectl)
    wait_for(lambda: _is_ready(installation), "KEDA can look again", 60)
    assert client.run("print(1)", wait_timeout=60, **IN_A_JOB).outcome is Outcome.SUCCEEDED


async def test_no_keda(installation: Installation) -> None:
    with installation.redis_url("caller") as url, Client(url) as client, without_operator(installation.kubectl):
        result = lost(client)
        with installation.redis_url("doctor") as looking:
            environ = {name: os.environ[name] for name in ("PATH", "KUBECONFIG")} | {"REDIS_URL": looking}
            done = await execute(environ, "doctor", "--namespace", installation.kubectl.namespace, "--json")

    assert "no pod was made for the lane: `executor doctor`" in result.error
    assert done.code == 1
    errors = [one["seen"] for one in done.json["findings"] if one["severity"] == "error"]
    assert any("keda-operator" in seen and "no available replica" in seen for seen in errors), errors


def test_all_dispatchers_gone_for_a_while(installation: Installation, client: Client) -> None:
    installation.kubectl("scale", "deployment/executor-dispatcher", "--replicas=0")
    wait_for(lambda: not _dispatchers(installation), "no dispatcher is left", 60)
    handles = client.submit_many([{"code": "print(1)"}, {"code": "print(1)", **IN_A_JOB}])

    installation.kubectl("scale", "deployment/executor-dispatcher", "--replicas=2")

    assert [handle.wait(60).outcome for handle in handles] == [Outcome.SUCCEEDED] * 2


def test_a_lane_without_its_group(installation: Installation, client: Client) -> None:
    with installation.redis_url("admin") as url, Client(url) as admin:
        command = ("XGROUP", "DESTROY", installation.keys.lane("job.cpu"), "workers")
        assert admin.call(_call(url, installation, *command)) == 1

    assert client.run("print(1)", wait_timeout=60, **IN_A_JOB).outcome is Outcome.SUCCEEDED


async def _call(url: str, installation: Installation, *command: str) -> Any:
    cell = installation.cell(url)
    try:
        return await cell.channel("e2e").call(*command)
    finally:
        await cell.close()


def _set_password(installation: Installation, encoded: str) -> None:
    change = json.dumps({"data": {"password": encoded}})
    installation.kubectl("patch", "secret", "executor-redis", "--type=merge", "-p", change)


def _is_ready(installation: Installation) -> bool:
    conditions = installation.kubectl.get("scaledjob", "job-cpu")["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _dispatchers(installation: Installation) -> list[dict[str, Any]]:
    return installation.kubectl.list("pods", "-l", "app.kubernetes.io/name=executor-dispatcher")
