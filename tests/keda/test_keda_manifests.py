"""Manifests: the shipped ones say what they should, broken ones name file, field and fix."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatcher.policy import load_policy
from executor.errors import Misconfigured
from executor.keys import WORKERS, Keys, job_lane, warm_lane
from executor.request import CLASSES
from keda.expression import Formula
from keda.kustomize import render
from keda.manifests import BASE, LOCAL, ManifestError, load
from keda.objects import (
    DEFAULT_SCALE_DOWN,
    DEFAULT_SCALE_UP,
    Behavior,
    Calculation,
    PolicyType,
    ScaledJob,
    ScaledObject,
    ScalingModifiers,
    ScalingPolicy,
    ScalingRules,
    SelectPolicy,
    Strategy,
    Trigger,
    TriggerMode,
)

ROOT = Path(__file__).parents[2]
NAMED = (Trigger("lag", TriggerMode.LAG, 1), Trigger("pending", TriggerMode.PENDING, 1))
FORMULA = ScalingModifiers(Formula.parse("lag + pending", ("lag", "pending")), 2.0, 0.0)
UP = ScalingRules(0, (ScalingPolicy(PolicyType.PERCENT, 100, 15),))
DOWN = ScalingRules(300, (ScalingPolicy(PolicyType.PERCENT, 10, 60),))

POOL = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: warm-python}
spec:
  scaleTargetRef: {name: worker-warm-python}
  triggers:
    - type: redis-streams
      metadata: {stream: "executor:lane:warm.python", consumerGroup: workers, lagCount: "2"}
"""
JOB = """
apiVersion: keda.sh/v1alpha1
kind: ScaledJob
metadata: {name: job-cpu}
spec:
  jobTargetRef: {}
  triggers:
    - type: redis-streams
      metadata: {stream: "executor:lane:job.cpu", consumerGroup: workers, lagCount: "1"}
"""
NAMED_POOL = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: warm-python}
spec:
  scaleTargetRef: {name: worker-warm-python}
  advanced:
    scalingModifiers: {formula: lag + pending, target: "2"}
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown: {policies: [{type: Pods, value: 1, periodSeconds: 30}]}
  triggers:
    - type: redis-streams
      name: lag
      metadata: {stream: "executor:lane:warm.python", consumerGroup: workers, lagCount: "2"}
    - type: redis-streams
      name: pending
      metadata: {stream: "executor:lane:warm.python", consumerGroup: workers}
"""

TARGET = "scaleTargetRef: {name: worker-warm-python}"
MODIFIERS = "spec.advanced.scalingModifiers"
DOWN_RULES = "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Put documents into a kustomization of their own; its directory."""

    def written(*documents: str) -> Path:
        (tmp_path / "objects.yaml").write_text("\n---\n".join(documents))
        (tmp_path / "kustomization.yaml").write_text("resources: [objects.yaml]")
        return tmp_path

    return written


def test_the_base_is_what_the_design_says() -> None:
    pool, job, high_memory, gpu = load(BASE)

    assert pool == ScaledObject(
        name="warm-python",
        lane=warm_lane("python"),
        group=WORKERS,
        triggers=NAMED,
        polling_interval=2,
        min_replicas=0,
        max_replicas=10,
        cooldown=300,
        modifiers=FORMULA,
        behavior=Behavior(UP, DOWN),
    )
    assert job == ScaledJob(
        name="job-cpu",
        lane=job_lane("cpu"),
        group=WORKERS,
        triggers=(Trigger("", TriggerMode.LAG, 1),),
        polling_interval=2,
        min_replicas=0,
        max_replicas=100,
        strategy=Strategy.ACCURATE,
    )
    for other, name, most in ((high_memory, "high-memory", 10), (gpu, "gpu", 4)):
        assert other == replace(job, name=f"job-{name}", lane=job_lane(name), max_replicas=most)


def test_the_local_overlay_is_the_base_made_quick_and_small() -> None:
    pool, *jobs = load(LOCAL)

    assert isinstance(pool, ScaledObject)
    assert (pool.name, pool.lane) == ("warm-python", "warm.python")
    assert (pool.polling_interval, pool.cooldown, pool.max_replicas) == (1, 3, 2)
    for job, name in zip(jobs, CLASSES, strict=True):
        assert isinstance(job, ScaledJob)
        assert (job.name, job.lane) == (f"job-{name}", f"job.{name}")
        assert (job.polling_interval, job.max_replicas, job.strategy) == (1, 2, Strategy.ACCURATE)
    assert pool.modifiers == FORMULA
    assert pool.behavior.down.window < pool.cooldown


def test_manifests_spell_streams_as_the_code_does() -> None:
    for directory in (BASE, LOCAL):
        text = "".join(file.read_text() for file in directory.rglob("*.yaml"))
        for stream in re.findall(r"stream: (\S+)", text):
            assert stream in {Keys().lane(scaled.lane) for scaled in load(BASE)}


@pytest.mark.parametrize(
    "file", [*BASE.rglob("*.yaml"), *LOCAL.glob("*.yaml")], ids=lambda file: f"{file.parent.name}/{file.name}"
)
def test_every_number_has_its_reason_beside_it(file: Path) -> None:
    bare = [
        line
        for line in file.read_text().splitlines()
        if re.search(r':\s+"?[0-9]+(Mi|Gi|m)?"?\s*$', line.split("#")[0]) and "#" not in line
    ]

    assert not bare


RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


JOBS: list[Any] = [one.document for one in render(BASE) if one.kind == "ScaledJob"]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_a_job_pod_template_is_restricted(job: Any) -> None:
    """Pod Security Standards, level restricted."""
    spec = job["spec"]["jobTargetRef"]
    pod = spec["template"]["spec"]
    assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"], pod["restartPolicy"]) == (0, 300, "Never")
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["initContainers"] + pod["containers"]:
        assert {name: container["securityContext"][name] for name in RESTRICTED} == RESTRICTED
    assert not pod["automountServiceAccountToken"]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_the_lane_of_a_job_is_said_once_and_the_same_to_all(job: Any) -> None:
    labels = job["spec"]["jobTargetRef"]["template"]["metadata"]["labels"]
    (stream,) = {trigger["metadata"]["stream"] for trigger in job["spec"]["triggers"]}

    assert Keys().lane(labels["executor.ai-orchestrator.io/lane"]) == stream
    assert stream.endswith(job["metadata"]["name"].removeprefix("job-"))


def test_a_class_holds_what_the_policy_grants_it_beside_zygote_and_keeper() -> None:
    granted = load_policy(str(ROOT / "k8s" / "base" / "policy.yaml")).classes

    for job in JOBS:
        (evaluation,) = job["spec"]["jobTargetRef"]["template"]["spec"]["containers"]
        name = job["metadata"]["name"].removeprefix("job-")
        assert evaluation["resources"]["limits"]["memory"] == f"{granted[name].memory // 2**20 + 128}Mi"


def test_a_gpu_job_asks_for_a_device_and_for_a_node_that_has_some() -> None:
    (job,) = (job for job in JOBS if job["metadata"]["name"] == "job-gpu")
    pod = job["spec"]["jobTargetRef"]["template"]["spec"]

    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert [(one["key"], one["operator"]) for one in pod["tolerations"]] == [("nvidia.com/gpu", "Exists")]


def test_absent_fields_get_kedas_defaults(write: Write) -> None:
    pool, job = load(write(POOL, JOB))

    assert pool == ScaledObject(
        name="warm-python",
        lane="warm.python",
        group="workers",
        triggers=(Trigger("", TriggerMode.LAG, 2),),
        polling_interval=30,
        min_replicas=0,
        max_replicas=100,
        cooldown=300,
        initial_cooldown=0,
        modifiers=None,
        behavior=Behavior(DEFAULT_SCALE_UP, DEFAULT_SCALE_DOWN),
    )
    assert isinstance(job, ScaledJob)
    assert (job.polling_interval, job.headroom, job.strategy) == (30, 100, Strategy.DEFAULT)
    assert job.calculation is Calculation.MAX


def test_a_behavior_that_says_little_keeps_kubernetes_defaults(write: Write) -> None:
    (pool,) = load(write(NAMED_POOL))

    assert isinstance(pool, ScaledObject)
    assert pool.behavior.up == DEFAULT_SCALE_UP
    assert pool.behavior.down == ScalingRules(300, (ScalingPolicy(PolicyType.PODS, 1, 30),), SelectPolicy.MAX)


def test_spares_come_off_the_maximum_only_where_it_is_set(write: Write) -> None:
    (unset,) = load(write(JOB.replace("jobTargetRef: {}", "jobTargetRef: {}\n  minReplicaCount: 5")))
    (both,) = load(write(JOB.replace("jobTargetRef: {}", "minReplicaCount: 5\n  maxReplicaCount: 50")))

    assert isinstance(unset, ScaledJob)
    assert isinstance(both, ScaledJob)
    assert (unset.headroom, both.headroom) == (100, 45)


@pytest.mark.parametrize(
    ("metadata", "mode", "target"),
    [
        ('lagCount: "3"', TriggerMode.LAG, 3),
        ('lagCount: "3", pendingEntriesCount: "9"', TriggerMode.LAG, 3),
        ('lagCount: "0"', TriggerMode.PENDING, 5),
        ('pendingEntriesCount: "9"', TriggerMode.PENDING, 9),
        ('address: "redis:6379"', TriggerMode.PENDING, 5),
    ],
)
def test_lag_count_chooses_the_mode(write: Write, metadata: str, mode: TriggerMode, target: int) -> None:
    """Left out or 0 it silently counts pending; the page of KEDA says otherwise, its source does not."""
    (pool,) = load(write(POOL.replace('lagCount: "2"', metadata)))

    assert pool.triggers == (Trigger("", mode, target),)


def test_other_kinds_are_passed_over(write: Write) -> None:
    deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: worker}}"
    authentication = "{apiVersion: keda.sh/v1alpha1, kind: TriggerAuthentication, metadata: {name: redis}}"

    assert [scaled.name for scaled in load(write(deployment, authentication, JOB))] == ["job-cpu"]


@pytest.mark.parametrize(
    ("document", "old", "new", "field", "fix"),
    [
        (POOL, "name: warm-python", "", "metadata.name", "is missing"),
        (POOL, "triggers:", "triggered:", "spec.triggered", "is not followed here"),
        (POOL, TARGET, "idleReplicaCount: 0", "spec.idleReplicaCount", "not followed"),
        (POOL, TARGET, "pollingInterval: 0", "spec.pollingInterval", "at least 1"),
        (
            POOL,
            TARGET,
            'cooldownPeriod: "3"',
            "spec.cooldownPeriod",
            "must be a whole number without quotes, it is text",
        ),
        (
            POOL,
            TARGET,
            "minReplicaCount: 5\n  maxReplicaCount: 2",
            "spec.minReplicaCount",
            "is 5, more than maxReplicaCount (2)",
        ),
        (
            POOL,
            "type: redis-streams",
            "type: kafka",
            "spec.triggers[0].type",
            "is 'kafka', must be one of: redis-streams",
        ),
        (POOL, '"2"', "2", "spec.triggers[0].metadata.lagCount", "must be text, it is a number; put quotes around it"),
        (POOL, '"2"', '"two"', "spec.triggers[0].metadata.lagCount", "is 'two', must be a whole number in quotes"),
        (POOL, '"2"', '"-2"', "spec.triggers[0].metadata.lagCount", "is '-2', must be a whole number in quotes"),
        (POOL, "lagCount", "lagcount", "spec.triggers[0].metadata.lagcount", "is not followed here"),
        (POOL, "consumerGroup: workers, ", "", "spec.triggers[0].metadata.consumerGroup", "is missing"),
        (POOL, "executor:lane:warm.python", "jobs", "spec.triggers[0].metadata.stream", "must be executor:lane:<lane>"),
        (
            POOL,
            "executor:lane:warm.python",
            "executor:lane:",
            "spec.triggers[0].metadata.stream",
            "must be executor:lane:<lane>",
        ),
        (
            NAMED_POOL,
            'executor:lane:warm.python", consumerGroup: workers}',
            'executor:lane:warm.ruby", consumerGroup: workers}',
            "spec.triggers[1].metadata",
            "one object, one lane",
        ),
        (NAMED_POOL, "name: pending", "name: lag", "spec.triggers[1].name", "is taken by another trigger"),
        (
            NAMED_POOL,
            "lag + pending",
            "lag + busy",
            f"{MODIFIERS}.formula",
            "'busy' is not the name of a trigger (there are: lag, pending)",
        ),
        (NAMED_POOL, '"2"}\n    horiz', '"0"}\n    horiz', f"{MODIFIERS}.target", "greater than zero"),
        (NAMED_POOL, '"2"}\n    horiz', '"x"}\n    horiz', f"{MODIFIERS}.target", "must be a number"),
        (NAMED_POOL, ', target: "2"', "", f"{MODIFIERS}.target", "is missing"),
        (NAMED_POOL, ', target: "2"', ', target: "2", metricType: Value', f"{MODIFIERS}.metricType", "AverageValue"),
        (
            NAMED_POOL,
            "type: Pods",
            "type: pods",
            f"{DOWN_RULES}.policies[0].type",
            "is 'pods', must be one of: Pods, Percent",
        ),
        (
            NAMED_POOL,
            "{policies: [{type: Pods, value: 1, periodSeconds: 30}]}",
            "{policies: []}",
            f"{DOWN_RULES}.policies",
            "needs at least 1 element",
        ),
        (
            JOB,
            "jobTargetRef: {}",
            "scalingStrategy: {strategy: eager}",
            "spec.scalingStrategy.strategy",
            "one of: default, accurate",
        ),
        (
            JOB,
            "jobTargetRef: {}",
            "scalingStrategy: {multipleScalersCalculation: median}",
            "spec.scalingStrategy.multipleScalersCalculation",
            "one of: max, min, avg, sum",
        ),
        (JOB, "jobTargetRef: {}", "maxReplicaCount: true", "spec.maxReplicaCount", "it is a boolean"),
        (
            JOB,
            "jobTargetRef: {}",
            "scalingStrategy: 3",
            "spec.scalingStrategy",
            "must be a mapping of names, it is a number",
        ),
    ],
)
def test_a_bad_manifest_is_named(write: Write, *, document: str, old: str, new: str, field: str, fix: str) -> None:
    assert old in document
    directory = write(document.replace(old, new, 1))

    with pytest.raises(ManifestError) as refused:
        load(directory)

    assert refused.value.file == str(directory / "objects.yaml")
    assert refused.value.field == field
    assert fix in refused.value.fix
    assert str(refused.value) == f"{refused.value.file}: {refused.value.field}: {refused.value.fix}"
    assert isinstance(refused.value, Misconfigured)


def test_two_objects_on_one_lane_are_refused(write: Write) -> None:
    """In-flight work of the one would be invisible to the other, or counted twice."""
    other = JOB.replace("name: job-cpu", "name: job-gpu")

    with pytest.raises(ManifestError, match=r"scales on lane job\.cpu, as job-cpu does; one lane, one object"):
        load(write(JOB, other))


def test_the_credit_of_a_lane_is_twice_what_its_replicas_run() -> None:
    """Enough that KEDA sees the demand for all of them, and that none of them waits for work."""
    credits = load_policy(str(ROOT / "k8s" / "base" / "policy.yaml")).credits

    for scaled in load(BASE):
        slots = scaled.modifiers.target if isinstance(scaled, ScaledObject) and scaled.modifiers else 1
        assert credits[scaled.lane] == 2 * scaled.max_replicas * slots
