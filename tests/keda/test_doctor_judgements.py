"""What the doctor makes of plain data: a table of things that are wrong, each with the words it must say."""

from __future__ import annotations

import copy
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keda.doctor.cluster import judge_cluster
from keda.doctor.finding import Finding, Severity
from keda.doctor.happenings import judge_happenings
from keda.doctor.scaling import judge_scaling, lane_pairs, slots_of
from keda.doctor.server import judge_server
from keda.kustomize import render
from keda.manifests import BASE

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
READY = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Active", "status": "False", "message": "idle"}]}
Facts = dict[str, Any]
SHIPPED = render(BASE)


def _ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat().replace("+00:00", "Z")


def _manifest(name: str) -> Any:
    found: Any = copy.deepcopy(next(one.document for one in SHIPPED if one.name == name))
    found["metadata"]["namespace"] = "ns"
    return {**found, "status": READY}


def _deployment(name: str, image: str = "executor:local", **labels: str) -> Any:
    container = {"name": "main", "image": image, "resources": {"limits": {"cpu": "2"}}}
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": labels},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}},
        "status": {"availableReplicas": 1},
    }


@pytest.fixture
def facts() -> Facts:
    """A cluster with what is shipped, all well."""
    return {
        "version": "v1.34.4",
        "namespace": "ns",
        "exists": True,
        "refused": {},
        "crds": ["scaledjobs", "scaledobjects", "triggerauthentications"],
        "operators": [_deployment("keda-operator", "ghcr.io/kedacore/keda:2.20.2")],
        "scaledobjects": [_manifest("warm-python")],
        "scaledjobs": [_manifest("job-cpu")],
        "triggerauthentications": [_manifest("executor-redis")],
        "clustertriggerauthentications": [],
        "secrets": {"executor-redis": ["address", "password", "url", "username"]},
        "deployments": [_deployment("worker-warm-python"), _deployment("dispatcher")],
        "jobs": [],
        "pods": [],
        "events": [],
        "access": [{"user": "", "verb": "list", "group": "", "resource": "pods", "allowed": True}],
    }


def _judge(facts: Facts) -> list[Finding]:
    if "error" in facts:
        return judge_cluster(facts)
    return [*judge_cluster(facts), *judge_scaling(facts), *judge_happenings(facts, NOW)]


def _bad(facts: Facts) -> list[Finding]:
    found = [one for one in _judge(facts) if one.severity is not Severity.OK]
    assert all(one.why for one in found)
    return found


def test_what_is_shipped_is_well(facts: Facts) -> None:
    assert _bad(facts) == []
    assert lane_pairs(facts) == [("executor:lane:job.cpu", "workers"), ("executor:lane:warm.python", "workers")]


def _set(facts: Facts, path: str, value: Any) -> None:
    """Put a value at a dotted path; a number is an index, and a value of None removes."""
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    at: Any = facts
    for part in parents:
        at = at[part]
    if value is None:
        del at[last]
    else:
        at[last] = value


POOL, JOB = "scaledobjects/0/spec", "scaledjobs/0/spec"
LAG, PENDING = f"{POOL}/triggers/0/metadata", f"{POOL}/triggers/1/metadata"
ONE = f"{JOB}/triggers/0/metadata"
MODIFIERS = f"{POOL}/advanced/scalingModifiers"


@pytest.mark.parametrize(
    ("path", "value", "severity", "seen", "why"),
    [
        (f"{ONE}/lagCount", None, "error", "lagCount is missing", "keda#2044"),
        (f"{ONE}/lagCount", "0", "error", "lagCount is missing", "keda#2044"),
        (f"{ONE}/activationLagCount", "1", "warn", "activationLagCount is 1", "keda#6478"),
        (f"{ONE}/consumerGroup", None, "error", "no consumerGroup", "length"),
        (f"{JOB}/scalingStrategy/strategy", "eager", "error", "eager", "keda#7016"),
        (f"{JOB}/scalingStrategy/strategy", "custom", "warn", "custom", "keda#7798"),
        (f"{JOB}/scalingStrategy", None, "warn", "strategy is default", "keda#6416"),
        (f"{JOB}/rollout", None, "warn", "not gradual", "keda#2098"),
        (f"{JOB}/pollingInterval", None, "warn", "30 s, the default", "half"),
        (f"{JOB}/minReplicaCount", 2, "warn", "minReplicaCount is 2", "keda#4554"),
        (f"{JOB}/jobTargetRef/backoffLimit", None, "warn", "6, the default", "repeat"),
        (f"{JOB}/jobTargetRef/ttlSecondsAfterFinished", None, "warn", "ttlSecondsAfterFinished", "finished"),
        (f"{JOB}/jobTargetRef/template/spec/restartPolicy", None, "warn", "restartPolicy", "repeat"),
        (f"{JOB}/triggers/0/authenticationRef/name", "x", "error", "no TriggerAuthentication x", "reach"),
        (f"{POOL}/pollingInterval", 6, "warn", "pollingInterval is 6 s", "half"),
        (f"{POOL}/cooldownPeriod", 5, "warn", "cooldownPeriod is 5", "zero"),
        (f"{POOL}/idleReplicaCount", 1, "error", "idleReplicaCount", "keda#2314"),
        (f"{POOL}/minReplicaCount", 10, "warn", "minReplicaCount 10, maxReplicaCount 10", "scale"),
        (f"{POOL}/scaleTargetRef/name", "x", "error", "no Deployment x", "nothing"),
        (f"{MODIFIERS}/formula", "lag", "warn", "without pending", "keda#6719"),
        (f"{MODIFIERS}/formula", "pending", "error", "without lag", "keda#2044"),
        (f"{MODIFIERS}/activationTarget", "1", "warn", "activationTarget is 1", "keda#6478"),
        (f"{MODIFIERS}/target", "3", "warn", "target is 3", "work waits"),
        (f"{PENDING}/lagCount", "1", "warn", "without pending", "keda#6719"),
        ("scaledobjects/0/status", {}, "warn", "not said", "operator"),
        ("operators/0/status", {}, "error", "no available replica", "zero"),
        ("operators", [], "error", "operator is not", "looks"),
        ("operators/0", _deployment("keda-operator", "r/keda:2.19.0"), "error", "2.19.0", "keda#7880"),
        ("operators/0", _deployment("keda-operator", "localhost:5000/keda@sha256:1"), "warn", "not told", "keda#7855"),
        ("crds", [], "error", "kinds are absent", "zero"),
        ("exists", False, "error", "no namespace ns", "nothing"),
        ("secrets/executor-redis", None, "error", "no Secret executor-redis", "refused"),
        ("secrets/executor-redis", ["address", "password"], "error", "has no username", "refused"),
        ("triggerauthentications", [], "error", "no TriggerAuthentication executor-redis", "reach"),
        ("deployments/1/status", {}, "error", "no available replica of 1", "admits"),
        ("refused", {"pods": "403: no"}, "warn", "could not look at pods", "wrong"),
        ("access/0/allowed", False, "warn", "you may not: list pods", "wrong"),
        ("access/0/allowed", None, "warn", "may not ask", "right"),
    ],
)
def test_one_change_one_trap(facts: Facts, path: str, value: Any, severity: str, seen: str, why: str) -> None:
    if path == "access/0/allowed" and value is None:
        facts["access"][0]["allowed"] = None
    else:
        _set(facts, path, deepcopy(value))

    found = [one for one in _bad(facts) if seen in one.seen]

    assert found, _bad(facts)
    assert found[0].severity == severity
    assert why in found[0].why


@pytest.mark.parametrize(
    ("condition", "severity", "seen"),
    [
        ({"type": "Ready", "status": "False", "reason": "Bad", "message": "no such host"}, "error", "no such host"),
        ({"type": "Fallback", "status": "True", "message": "5 failures"}, "error", "in fallback: 5 failures"),
    ],
)
def test_a_condition_is_told_with_its_message(facts: Facts, condition: Any, severity: str, seen: str) -> None:
    facts["scaledjobs"][0]["status"] = {"conditions": [*READY["conditions"], condition]}

    (found,) = _bad(facts)

    assert found.severity == severity
    assert seen in found.seen
    assert found.act == "kubectl -n ns describe scaledjob job-cpu"


def test_an_annotation_that_pauses_is_told_with_its_removal(facts: Facts) -> None:
    facts["scaledobjects"][0]["metadata"]["annotations"] = {"autoscaling.keda.sh/paused": "true"}

    (found,) = _bad(facts)

    assert found.act == "kubectl -n ns annotate scaledobject warm-python autoscaling.keda.sh/paused-"


def test_two_objects_on_one_group_are_an_error(facts: Facts) -> None:
    facts["scaledjobs"][0]["spec"]["triggers"][0]["metadata"]["stream"] = "executor:lane:warm.python"

    (found,) = _bad(facts)

    assert (found.severity, found.about) == ("error", "ScaledObject warm-python, ScaledJob job-cpu")


@pytest.mark.parametrize(
    ("container", "slots"),
    [
        ({"resources": {"limits": {"cpu": "1500m"}}}, 2),
        ({"resources": {"limits": {"cpu": 3}}}, 3),
        ({"resources": {"limits": {"cpu": "1"}}, "env": [{"name": "EXECUTOR_SLOTS", "value": "4"}]}, 4),
        ({"args": ["worker", "--slots", "5"]}, 5),
        ({"resources": {"limits": {"cpu": "2"}}, "env": [{"name": "EXECUTOR_SLOTS", "valueFrom": {}}]}, 2),
        ({}, None),
    ],
)
def test_slots_of_a_pod(container: Any, slots: float | None) -> None:
    assert slots_of({"spec": {"template": {"spec": {"containers": [container]}}}}) == slots


def _pod(seconds: float, status: Any, name: str = "worker-abc12") -> Any:
    metadata = {"name": name, "creationTimestamp": _ago(seconds=seconds), "ownerReferences": [{"uid": "u"}]}
    return {"metadata": metadata, "status": {"phase": "Pending", **status}}


PULL = {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}
FULL = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}]}
CRASH = {"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}


@pytest.mark.parametrize(
    ("pod", "seen", "act"),
    [
        (_pod(61, PULL), "Pending for 61 s: ImagePullBackOff: no such image", "describe pod/worker-abc12"),
        (_pod(61, FULL), "FailedScheduling: 0/1 nodes: Insufficient cpu", "describe nodes"),
        (_pod(5, CRASH), "keeps ending: CrashLoopBackOff", "--previous"),
    ],
)
def test_a_pod_that_does_not_run_says_why(facts: Facts, pod: Any, seen: str, act: str) -> None:
    facts["pods"] = [pod]

    (found,) = _bad(facts)

    assert seen in found.seen
    assert act in found.act


def test_a_pod_may_take_a_minute(facts: Facts) -> None:
    facts["pods"] = [_pod(59, PULL)]

    assert _bad(facts) == []


def test_a_job_without_a_pod_is_an_error(facts: Facts) -> None:
    metadata = {"name": "job-cpu-x", "uid": "u", "creationTimestamp": _ago(minutes=2)}
    facts["jobs"] = [{"metadata": metadata, "spec": {}, "status": {}}]

    (found,) = _bad(facts)
    facts["pods"] = [_pod(5, {})]

    assert "no pod" in found.seen
    assert _bad(facts) == []


def _event(kind: str, name: str, reason: str, **more: Any) -> Any:
    base = {"involvedObject": {"kind": kind, "name": name}, "reason": reason, "message": "text", "metadata": {}}
    return {**base, "lastTimestamp": _ago(minutes=1), "count": 2, **more}


def test_events_of_one_reason_are_one_finding_with_the_last_message(facts: Facts) -> None:
    facts["pods"] = [_pod(5, {}, "worker-6d4cf56db6-bcd42")]
    facts["events"] = [
        _event("Pod", "worker-6d4cf56db6-bcd22", "FailedScheduling"),
        _event("Pod", "worker-6d4cf56db6-bcd42", "FailedScheduling", lastTimestamp=_ago(seconds=5), message="newest"),
        _event("ScaledJob", "job-cpu", "KEDAScalerFailed", lastTimestamp=_ago(minutes=20)),
        _event("ScaledJob", "job-cpu", "KEDAScalerFailed", lastTimestamp=_ago(hours=2)),
        _event("Node", "node-1", "Rebooted"),
    ]

    first, second = _bad(facts)

    assert (first.severity, first.seen) == ("error", "FailedScheduling 4 times, last 5 s ago: newest")
    assert (second.severity, second.seen) == ("warn", "KEDAScalerFailed 2 times, last 1200 s ago: text")


@pytest.mark.parametrize(("ready", "severity"), [("True", "warn"), ("False", "error")])
def test_an_event_of_an_object_that_is_well_again_is_history(facts: Facts, ready: str, severity: str) -> None:
    facts["scaledjobs"][0]["status"] = {"conditions": [{"type": "Ready", "status": ready}]}
    facts["events"] = [
        _event("ScaledJob", "job-cpu", "KEDAScalerFailed"),
        _event("Pod", "gone-bcd22", "FailedScheduling"),
    ]

    found = {one.about: one.severity for one in _bad(facts) if "times" in one.seen}

    assert found == {"ScaledJob job-cpu": severity, "Pod gone-bcd22": "warn"}


def test_an_api_server_that_does_not_answer_is_one_error() -> None:
    (found,) = _bad({"error": "https://x: refused", "status": 0})

    assert found.severity is Severity.ERROR
    assert "--no-cluster" in found.act


def _server(**info: str) -> list[Finding]:
    base = {"redis_version": "7.2.6", "aof_enabled": "1", "maxmemory_policy": "noeviction", "role": "master"}
    empty: dict[str, Any] = {"streams": [], "executors": [], "dead": 0, "sampled": 0, "whole": True, "immortal": []}
    more = {"prefix": "p", "lane_prefix": "p:lane:", "lease_ms": 1000, "appendfsync": "everysec", "user": "u"}
    return judge_server({**empty, **more, "info": {**base, **info}, "refused": {"SCAN": ""}})


@pytest.mark.parametrize(
    ("info", "severity", "seen"),
    [
        ({}, "ok", "Redis 7.2.6"),
        ({"redis_version": "6.2.14"}, "error", "Redis 6.2.14"),
        ({"valkey_version": "8.0.1"}, "ok", "Valkey 8.0.1"),
        ({"valkey_version": "7.2.5"}, "ok", "Valkey 7.2.5"),
        ({"maxmemory_policy": "volatile-ttl"}, "error", "maxmemory-policy is volatile-ttl"),
        ({"cluster_enabled": "1"}, "error", "the prefix 'p' is no hash tag"),
        ({"redis_version": ""}, "warn", "not told"),
        ({"role": "slave"}, "error", "replica"),
        ({"aof_last_write_status": "err"}, "error", "last write"),
        ({"used_memory": "90", "maxmemory": "100"}, "warn", "90%"),
    ],
)
def test_a_server_is_told_by_its_info(info: dict[str, str], severity: str, seen: str) -> None:
    assert [one.severity for one in _server(**info) if seen in one.seen] == [severity]
