"""The manifests KEDA reads name the streams, groups and slots that the programs use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dispatcher.routing import lanes
from executor import keys
from executor.settings import WorkerSettings
from keda.kustomize import render
from keda.manifests import BASE

OBJECTS: list[Any] = [one.document for one in render(BASE) if one.kind in ("ScaledObject", "ScaledJob")]
POOL = next(one for one in OBJECTS if one["kind"] == "ScaledObject")
JOB = next(one for one in OBJECTS if one["metadata"]["name"] == "job-cpu")
JOB_POD = JOB["spec"]["jobTargetRef"]["template"]["spec"]


def _streams(one: dict[str, Any]) -> set[str]:
    return {trigger["metadata"]["stream"] for trigger in one["spec"]["triggers"]}


def test_every_lane_has_one_object_and_every_object_a_lane() -> None:
    found = sorted(stream for one in OBJECTS for stream in _streams(one))

    assert found == sorted(keys.Keys().lane(lane) for lane in lanes())


def test_an_object_is_named_after_its_lane() -> None:
    for one in OBJECTS:
        (stream,) = _streams(one)
        assert keys.Keys().lane(one["metadata"]["name"].replace("-", ".", 1)) == stream


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: one["metadata"]["name"])
def test_triggers_ask_for_the_workers_group(one: dict[str, Any]) -> None:
    assert {trigger["metadata"]["consumerGroup"] for trigger in one["spec"]["triggers"]} == {keys.WORKERS}


def test_one_entry_is_one_job() -> None:
    (agent,) = JOB_POD["initContainers"]
    lane = next(one["valueFrom"]["fieldRef"]["fieldPath"] for one in agent["env"] if one["name"] == "EXECUTOR_LANE")

    assert JOB["spec"]["triggers"][0]["metadata"]["lagCount"] == "1"
    assert lane == "metadata.labels['executor.ai-orchestrator.io/lane']"


def test_a_job_looks_pending_until_its_agent_has_claimed() -> None:
    (agent,) = JOB_POD["initContainers"]

    assert agent["restartPolicy"] == "Always"
    ready = Path(WorkerSettings().agent_socket).with_suffix(".ready")
    assert f"until [ -e {ready} ]" in agent["lifecycle"]["postStart"]["exec"]["command"][-1]


def test_the_evaluation_container_is_given_nothing() -> None:
    (evaluation,) = JOB_POD["containers"]
    secrets = [volume for volume in JOB_POD["volumes"] if "emptyDir" not in volume]

    assert evaluation.keys().isdisjoint({"env", "envFrom"})
    assert evaluation["command"][-2:] == [WorkerSettings().agent_socket, "/tmp"]
    assert secrets == []
    assert not JOB_POD["automountServiceAccountToken"]
    assert next(one for one in evaluation["volumeMounts"] if one["name"] == "agent")["readOnly"]


def test_the_pool_is_sized_in_slots() -> None:
    """The formula counts entries and its target is slots: a pod's CPU limit, where EXECUTOR_SLOTS is left alone."""
    modifiers = POOL["spec"]["advanced"]["scalingModifiers"]

    assert modifiers["formula"] == "lag + pending"
    assert int(modifiers["target"]) >= 1
    assert (
        f"{POOL['spec']['maxReplicaCount']} pods x {modifiers['target']} slots"
        in (BASE / "warm-python.yaml").read_text()
    )


def test_a_job_outlives_the_largest_timeout_and_the_grace_period() -> None:
    from executor.settings import LimitSettings

    spec = JOB["spec"]["jobTargetRef"]

    assert spec["activeDeadlineSeconds"] > LimitSettings().max_timeout + WorkerSettings().grace
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > WorkerSettings().grace
