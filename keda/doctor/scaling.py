"""Judges the settings of ScaledObjects and ScaledJobs against the traps that KEDA's issues are full of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from keda.doctor.finding import Finding, error, ok, warn

_TRIGGERS: Final = ("redis-streams", "redis-cluster-streams", "redis-sentinel-streams")
_POLL: Final = 5
_COOLDOWN: Final = 30
_PAUSES: Final = tuple(f"autoscaling.keda.sh/paused{end}" for end in ("", "-replicas", "-scale-in", "-scale-out"))

Object = dict[str, Any]


def judge_scaling(facts: dict[str, Any]) -> list[Finding]:
    """Every finding about the ScaledObjects and ScaledJobs of a namespace."""
    found: list[Finding] = []
    for one in (*facts["scaledobjects"], *facts["scaledjobs"]):
        notes = [*_conditions(one), *_pauses(one), *_common(one)]
        notes += _pool(one, facts) if one["kind"] == "ScaledObject" else _job(one)
        if not any(note.severity != "ok" for note in notes):
            notes.append(ok(_about(one), "no setting is a known trap"))
        found += notes
    return [*found, *_shared(facts)]


def lane_pairs(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The (stream, group) pairs that triggers name."""
    pairs = {_pair(trigger) for one in (*facts["scaledobjects"], *facts["scaledjobs"]) for trigger in _streams(one)}
    return sorted(pair for pair in pairs if all(pair))


def _about(one: Object) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


def _patch(one: Object, spec: str) -> str:
    kind, name, namespace = one["kind"].lower(), one["metadata"]["name"], one["metadata"]["namespace"]
    return f"kubectl -n {namespace} patch {kind} {name} --type=merge -p '{{\"spec\":{spec}}}'"


def _streams(one: Object) -> list[Object]:
    return [trigger for trigger in one["spec"].get("triggers", []) if trigger["type"] in _TRIGGERS]


def _pair(trigger: Object) -> tuple[str, str]:
    return trigger["metadata"].get("stream", ""), trigger["metadata"].get("consumerGroup", "")


def _counts_lag(trigger: Object) -> bool:
    return trigger["metadata"].get("lagCount", "0") not in ("", "0")


def _conditions(one: Object) -> Iterator[Finding]:
    about, meta = _about(one), one["metadata"]
    conditions = {item["type"]: item for item in one.get("status", {}).get("conditions", [])}
    describe = f"kubectl -n {meta['namespace']} describe {one['kind'].lower()} {meta['name']}"
    ready = conditions.get("Ready", {})
    if ready.get("status") == "True":
        active = conditions.get("Active", {})
        yield ok(about, f"Ready; Active is {active.get('status', 'Unknown')}: {active.get('message', 'not told')}")
    elif ready.get("status") == "False":
        yield error(
            about, f"not Ready: {ready.get('reason', '')}: {ready.get('message', '')}", "nothing scales", describe
        )
    else:
        yield warn(
            about, "KEDA has not said whether it is Ready", "the operator may not run, or has just begun", describe
        )
    fallback = conditions.get("Fallback", {})
    if fallback.get("status") == "True":
        yield error(
            about,
            f"in fallback: {fallback.get('message', '')}",
            "KEDA cannot read the metric and keeps a fixed number of replicas",
            describe,
        )


def _pauses(one: Object) -> Iterator[Finding]:
    meta = one["metadata"]
    annotations = meta.get("annotations") or {}
    for name in _PAUSES:
        if name in annotations and annotations[name] != "false":
            yield warn(
                _about(one),
                f"paused by the annotation {name}={annotations[name]}",
                "work waits, or pods stay, until it is removed",
                f"kubectl -n {meta['namespace']} annotate {one['kind'].lower()} {meta['name']} {name}-",
            )


def _common(one: Object) -> Iterator[Finding]:
    about, spec = _about(one), one["spec"]
    triggers = _streams(one)
    if not triggers:
        yield warn(about, "no redis-streams trigger", "it does not follow a lane, and none of these checks fits it")
    for trigger in triggers:
        yield from _trigger(about, trigger)
    if triggers and not any(map(_counts_lag, triggers)) and all(_pair(trigger)[1] for trigger in triggers):
        yield error(
            about,
            "lagCount is missing or 0 in every trigger",
            "KEDA then counts pending: nothing is delivered until someone reads, so nothing starts from zero "
            "(keda#2044, keda#3127)",
            'set lagCount: "1" in the trigger of the lane',
        )
    poll = spec.get("pollingInterval", 30)
    if poll > _POLL:
        yield warn(
            about,
            f"pollingInterval is {poll} s{'' if 'pollingInterval' in spec else ', the default'}",
            "on average half of it is added to every start from zero",
            _patch(one, '{"pollingInterval":2}'),
        )
    least, most = spec.get("minReplicaCount") or 0, spec.get("maxReplicaCount") or 100
    if least > most or (one["kind"] == "ScaledObject" and least == most):
        yield warn(about, f"minReplicaCount {least}, maxReplicaCount {most}", "nothing is left to scale between them")


def _trigger(about: str, trigger: Object) -> Iterator[Finding]:
    metadata, name = trigger["metadata"], trigger.get("name") or trigger["metadata"].get("stream", "?")
    if not metadata.get("consumerGroup"):
        yield error(
            about,
            f"trigger {name} has no consumerGroup",
            "KEDA counts the length of the stream, entries that are finished included",
            "set consumerGroup: workers",
        )
    activation = metadata.get("activationLagCount", "0")
    if activation not in ("", "0"):
        yield warn(
            about,
            f"trigger {name}: activationLagCount is {activation}",
            f"active is *greater than*: {activation} waiting entries wake nothing (keda#6478, keda#7835)",
            'set activationLagCount: "0"',
        )


def _pool(one: Object, facts: dict[str, Any]) -> Iterator[Finding]:
    about, spec = _about(one), one["spec"]
    modifiers = spec.get("advanced", {}).get("scalingModifiers", {})
    yield from _formula(about, modifiers, _streams(one))
    cooldown = spec.get("cooldownPeriod", 300)
    if cooldown < _COOLDOWN and not spec.get("minReplicaCount"):
        yield warn(
            about,
            f"cooldownPeriod is {cooldown} s",
            "a short pause takes the pool to zero, warm state with it, and the next request waits for a pod",
            _patch(one, '{"cooldownPeriod":300}'),
        )
    if spec.get("idleReplicaCount"):
        yield error(about, f"idleReplicaCount is {spec['idleReplicaCount']}", "only 0 works (keda#2314)", "set it to 0")
    ref = spec["scaleTargetRef"]
    if ref.get("kind", "Deployment") != "Deployment" or "deployments" in facts["refused"]:
        return
    target = next((each for each in facts["deployments"] if each["metadata"]["name"] == ref["name"]), None)
    if target is None:
        yield error(
            about,
            f"there is no Deployment {ref['name']}",
            "there is nothing to scale",
            f"kubectl -n {one['metadata']['namespace']} get deployments",
        )
        return
    yield from _slots(about, modifiers, _streams(one), target)


def _formula(about: str, modifiers: Object, triggers: list[Object]) -> Iterator[Finding]:
    formula = modifiers.get("formula", "")
    words = set(re.findall(r"[A-Za-z_]\w*", formula))
    counted = [one for one in triggers if one.get("name") in words] if formula else triggers
    if counted and all(map(_counts_lag, counted)):
        yield warn(
            about,
            f"it scales on {f'the formula {formula!r}' if formula else 'lag'}, without pending",
            "lag is 0 once everything is claimed, and the HPA removes pods that work (keda#6719, keda#2900)",
            'two named triggers, lag and pending, and scalingModifiers.formula: "lag + pending"',
        )
    elif counted and formula and not any(map(_counts_lag, counted)):
        yield error(
            about,
            f"it scales on the formula {formula!r}, without lag",
            "nothing is pending until someone reads, so nothing starts from zero (keda#2044)",
            'scalingModifiers.formula: "lag + pending"',
        )
    activation = modifiers.get("activationTarget", "0")
    if float(activation) > 0:
        yield warn(
            about,
            f"activationTarget is {activation}",
            "active is *greater than*: so many entries wake nothing (keda#6478)",
            'set activationTarget: "0"',
        )
    if formula and modifiers.get("metricType", "AverageValue") != "AverageValue":
        yield warn(about, f"metricType is {modifiers['metricType']}", "the target is then not what one replica bears")


def _slots(about: str, modifiers: Object, triggers: list[Object], target: Object) -> Iterator[Finding]:
    lag = next((one["metadata"]["lagCount"] for one in triggers if _counts_lag(one)), None)
    wanted = modifiers.get("target") if modifiers.get("formula") else lag
    slots = slots_of(target)
    if wanted is not None and slots is not None and float(wanted) != slots:
        yield warn(
            about,
            f"its target is {wanted}, a pod of {target['metadata']['name']} has {slots:g} slots",
            "with a larger target work waits beside free nodes; with a smaller one pods are half used",
            "change the target and the CPU limit (or EXECUTOR_SLOTS) together",
        )


def slots_of(deployment: Object) -> float | None:
    """Evaluations at once in one pod: EXECUTOR_SLOTS, --slots, or the CPU limit rounded up; None if none is set."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    container = next((one for one in containers if one.get("name") == "worker"), containers[0])
    for variable in container.get("env", []):
        value = str(variable.get("value", ""))
        if variable["name"] == "EXECUTOR_SLOTS" and value.isdigit() and int(value):
            return float(value)
    words = [str(word) for word in (*container.get("command", []), *container.get("args", []))]
    if "--slots" in words[:-1]:
        return float(words[words.index("--slots") + 1])
    limit = str(container.get("resources", {}).get("limits", {}).get("cpu", ""))
    if not limit:
        return None
    cores = float(limit[:-1]) / 1000 if limit.endswith("m") else float(limit)
    return float(max(1, -(-cores // 1)))


def _job(one: Object) -> Iterator[Finding]:
    about, spec = _about(one), one["spec"]
    yield from _strategy(one)
    if spec.get("rollout", {}).get("strategy") != "gradual":
        yield warn(
            about,
            "rollout.strategy is not gradual",
            "any change of this object deletes its running Jobs (keda#2098, keda#6440)",
            _patch(one, '{"rollout":{"strategy":"gradual"}}'),
        )
    job = spec["jobTargetRef"]
    if job.get("backoffLimit") != 0:
        yield warn(
            about,
            f"backoffLimit is {job.get('backoffLimit', '6, the default')}",
            "Kubernetes and the queue both repeat: a broken pod is started several times for one attempt",
            _patch(one, '{"jobTargetRef":{"backoffLimit":0}}'),
        )
    if "ttlSecondsAfterFinished" not in job:
        yield warn(
            about,
            "ttlSecondsAfterFinished is missing",
            "finished Jobs stay until KEDA's history limits (100 each) remove them",
            _patch(one, '{"jobTargetRef":{"ttlSecondsAfterFinished":300}}'),
        )
    if job["template"]["spec"].get("restartPolicy", "OnFailure") != "Never":
        yield warn(about, "restartPolicy is not Never", "the kubelet repeats as well", "set restartPolicy: Never")


def _strategy(one: Object) -> Iterator[Finding]:
    about, spec = _about(one), one["spec"]
    scaling = spec.get("scalingStrategy", {})
    strategy = scaling.get("strategy") or "default"
    lag, triggers = [trigger for trigger in _streams(one) if _counts_lag(trigger)], _streams(one)
    fix = _patch(one, '{"scalingStrategy":{"strategy":"accurate"}}')
    if strategy == "eager":
        yield error(about, "strategy is eager", "it starts Jobs for work that has one (keda#7016, keda#6416)", fix)
    elif strategy == "custom":
        yield warn(about, "strategy is custom", "before KEDA 2.20.2 it can crash the operator (keda#7798)", fix)
    elif strategy == "accurate" and len(lag) < len(triggers):
        yield error(
            about,
            "strategy accurate with a trigger that counts pending",
            "every claimed entry starts another Job at every poll (keda#7016)",
            "leave only the trigger with lagCount",
        )
    elif strategy == "default" and lag and not (len(lag) < len(triggers) and _sum(scaling)):
        yield warn(
            about,
            "strategy is default, with lag",
            "running Jobs are taken off a lag that no longer counts them: new work waits for old work (keda#6416)",
            fix,
        )
    if strategy == "accurate" and spec.get("minReplicaCount"):
        yield warn(
            about,
            f"minReplicaCount is {spec['minReplicaCount']} with accurate",
            "spares are not taken off the demand, and not refilled (keda#4554, keda#7345)",
            _patch(one, '{"minReplicaCount":0}'),
        )


def _sum(scaling: Object) -> bool:
    return bool(scaling.get("multipleScalersCalculation") == "sum")


def _shared(facts: dict[str, Any]) -> Iterator[Finding]:
    users: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in (*facts["scaledobjects"], *facts["scaledjobs"]):
        for pair in {_pair(trigger) for trigger in _streams(one)}:
            users[pair].append(_about(one))
    for (stream, group), names in users.items():
        if len(names) > 1:
            yield error(
                ", ".join(names),
                f"they scale on the same stream {stream} and group {group}",
                "each starts pods for the same entries",
                "one lane, one object: delete one, or give it a lane of its own",
            )
