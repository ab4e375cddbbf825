"""Judges what goes wrong at this moment: events, pods that do not start, Jobs without a pod."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from keda.doctor.finding import Finding, error, ok, warn

_OLDEST: Final = timedelta(hours=1)
_RECENT: Final = timedelta(minutes=10)
_PATIENCE: Final = timedelta(seconds=60)
_SHOWN: Final = 12
_KINDS: Final = ("ScaledObject", "ScaledJob", "HorizontalPodAutoscaler", "TriggerAuthentication")
_WORKLOADS: Final = ("Pod", "Job", "ReplicaSet", "Deployment")
_SUFFIX: Final = re.compile(r"(-[bcdfghjklmnpqrstvwxz2456789]{5,10}){1,2}$")
"""What Kubernetes adds to a name, in its alphabet without vowels."""

Object = dict[str, Any]

_IMAGE: Final = (
    "the image cannot be had",
    "check its name and imagePullSecrets: kubectl -n {namespace} describe {object}",
)
_MEANINGS: Final = {
    "KEDAScalerFailed": (
        "KEDA cannot read the metric: nothing starts from zero",
        "kubectl -n keda logs deployment/keda-operator --tail=20",
    ),
    "FailedScheduling": ("no node takes the pod", "kubectl describe nodes | grep -A8 'Allocated resources'"),
    "FailedCreate": (
        "pods are refused: a quota, an admission, a service account that is missing",
        "kubectl -n {namespace} get resourcequota,serviceaccount",
    ),
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "ErrImageNeverPull": _IMAGE,
    "InvalidImageName": _IMAGE,
    "CrashLoopBackOff": ("the program ends at its start", "kubectl -n {namespace} logs {object} --previous"),
    "CreateContainerConfigError": (
        "a Secret or ConfigMap it names is missing",
        "kubectl -n {namespace} describe {object}",
    ),
}


def judge_happenings(facts: dict[str, Any], now: datetime) -> list[Finding]:
    """Every finding about events, pods and Jobs.

    Args:
        facts: what `k8s.inspection` collected.
        now: with a time zone.
    """
    namespace = facts["namespace"]
    found = [*_pods(facts["pods"], namespace, now), *_jobs(facts, now)]
    if not found and not {"pods", "jobs"} & facts["refused"].keys():
        found.append(
            ok("pods", f"{len(facts['pods'])} pods, {len(facts['jobs'])} Jobs; none waits over a minute to start")
        )
    return [*found, *_events(facts, now)]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _advice(reason: str, kind: str, name: str, namespace: str) -> tuple[str, str]:
    target = f"{kind.lower()}/{name}"
    otherwise = ("it may not do what it should", "kubectl -n {namespace} describe {object}")
    why, act = _MEANINGS.get(reason, otherwise)
    return why, act.format(namespace=namespace, object=target)


def _pods(pods: list[Object], namespace: str, now: datetime) -> Iterator[Finding]:
    stuck: dict[tuple[str, str], list[tuple[str, str, float]]] = {}
    for pod in pods:
        reason, message = _waiting(pod)
        age = now - _moment(pod["metadata"]["creationTimestamp"])
        late = pod.get("status", {}).get("phase") == "Pending" and age > _PATIENCE
        if late or reason == "CrashLoopBackOff":
            key = _SUFFIX.sub("", pod["metadata"]["name"]), reason
            stuck.setdefault(key, []).append((pod["metadata"]["name"], message, age.total_seconds()))
    for (stem, reason), rows in stuck.items():
        name, message, seconds = max(rows, key=lambda row: row[2])
        why, act = _advice(reason, "Pod", name, namespace)
        word = "keeps ending" if reason == "CrashLoopBackOff" else f"is Pending for {seconds:.0f} s"
        more = f" ({len(rows)} pods of {stem})" if len(rows) > 1 else ""
        yield error(f"Pod {name}", f"{word}{more}: {reason}: {message}", why, act)


def _waiting(pod: Object) -> tuple[str, str]:
    """Why a pod does not run."""
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in {"PodInitializing", "ContainerCreating"}:
            return waiting.get("reason", "waiting"), waiting.get("message", "")
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return "FailedScheduling", condition.get("message", "")
    return "not started", "containers are being made"


def _jobs(facts: dict[str, Any], now: datetime) -> Iterator[Finding]:
    """Jobs that have no pod at all."""
    owners = {owner["uid"] for pod in facts["pods"] for owner in pod["metadata"].get("ownerReferences", [])}
    late = [
        job
        for job in facts["jobs"]
        if job["metadata"]["uid"] not in owners
        and not {"Complete", "Failed"} & {item["type"] for item in job.get("status", {}).get("conditions", [])}
        and not job["spec"].get("suspend")
        and now - _moment(job["metadata"]["creationTimestamp"]) > _PATIENCE
    ]
    if late and "pods" not in facts["refused"]:
        name, namespace = late[0]["metadata"]["name"], facts["namespace"]
        yield error(
            f"Job {name}",
            f"{len(late)} Jobs are older than {_PATIENCE.seconds} s and have no pod",
            "their pods are refused; they count as pending, and KEDA starts no others for them",
            f"kubectl -n {namespace} describe job {name}",
        )


def _events(facts: dict[str, Any], now: datetime) -> Iterator[Finding]:
    groups: dict[tuple[str, str, str], list[tuple[datetime, Object]]] = {}
    for event in facts["events"]:
        kind, name = event["involvedObject"].get("kind", ""), event["involvedObject"].get("name", "")
        at = _last(event)
        if kind not in (*_KINDS, *_WORKLOADS) or now - at > _OLDEST:
            continue
        stem = _SUFFIX.sub("", name) if kind in _WORKLOADS else name
        groups.setdefault((kind, stem, event.get("reason", "")), []).append((at, event))
    ordered = sorted(groups.items(), key=lambda item: max(at for at, _ in item[1]), reverse=True)
    for (kind, _, reason), rows in ordered[:_SHOWN]:
        at, event = max(rows, key=lambda row: row[0])
        name, age = event["involvedObject"]["name"], now - at
        times = sum(_times(each) for _, each in rows)
        why, act = _advice(reason, kind, name, facts["namespace"])
        judge = error if reason in _MEANINGS and age < _RECENT and not _over(kind, name, facts) else warn
        seen = f"{reason} {times} times, last {age.total_seconds():.0f} s ago: {event.get('message', '').strip()}"
        yield judge(f"{kind} {name}", seen, why, act)
    if not groups and "events" not in facts["refused"]:
        yield ok("events", "no warnings of the last hour")


def _over(kind: str, name: str, facts: dict[str, Any]) -> bool:
    """Whether what an event is about is gone, or well again."""
    if kind in {"Pod", "Job"}:
        return all(one["metadata"]["name"] != name for one in facts[f"{kind.lower()}s"])
    if kind not in {"ScaledObject", "ScaledJob"}:
        return False
    found = [one for one in facts[f"{kind.lower()}s"] if one["metadata"]["name"] == name]
    conditions = [item for one in found for item in one.get("status", {}).get("conditions", [])]
    return not found or any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _times(event: Object) -> int:
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)


def _last(event: Object) -> datetime:
    series = event.get("series") or {}
    text = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return _moment(text or event["metadata"]["creationTimestamp"])
