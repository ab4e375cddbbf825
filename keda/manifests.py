"""Reads ScaledObjects and ScaledJobs out of a kustomization, the way KEDA would understand them.

An absent field gets KEDA's own default. What the autoscaler cannot follow (another trigger type, another strategy,
a fallback, a misspelt field) is a `ManifestError` that names the file and the field: scaling on one machine must
not quietly differ from scaling on a cluster. What cannot change how many replicas there are is skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from executor.keys import Keys
from keda.expression import Formula, FormulaError
from keda.fields import ManifestError, Node
from keda.kustomize import Resource, render
from keda.objects import (
    DEFAULT_SCALE_DOWN,
    DEFAULT_SCALE_UP,
    Behavior,
    Calculation,
    PolicyType,
    Scaled,
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

__all__ = ["BASE", "LOCAL", "ManifestError", "load"]

BASE: Final = Path(__file__).parent / "base"
"""What a cluster starts from."""
LOCAL: Final = Path(__file__).parent / "overlays" / "local"
"""What the local autoscaler reads: the base, made quick and small."""

LANE: Final = Keys().lane("")
"""First part of the stream of a lane in every manifest; a cell with another prefix replaces it at run time."""

_API: Final = "keda.sh/v1alpha1"
_TRIGGERS: Final = ("redis-streams", "redis-cluster-streams", "redis-sentinel-streams")
_METADATA: Final = ("stream", "consumerGroup", "lagCount", "pendingEntriesCount", "activationLagCount")
_CONNECTION: Final = tuple(
    name + source
    for name in (
        *("address", "addresses", "host", "hosts", "port", "ports", "username", "password", "databaseIndex"),
        *("enableTLS", "unsafeSsl", "sentinelMaster", "sentinelUsername", "sentinelPassword"),
    )
    for source in ("", "FromEnv")
)
"""How KEDA reaches the server; the autoscaler has a connection already."""


def load(directory: Path = LOCAL) -> list[Scaled]:
    """Read every ScaledObject and ScaledJob of a kustomization; other kinds are passed over.

    Raises:
        ManifestError: if one cannot be followed, or if two of them scale on one lane.
    """
    objects: list[Scaled] = []
    lanes: dict[str, str] = {}
    for resource in render(directory):
        if resource.node.need("apiVersion").text() != _API:
            continue
        scaled = _read(resource)
        if scaled is None:
            continue
        if scaled.lane in lanes:
            resource.node.wrong(f"scales on lane {scaled.lane}, as {lanes[scaled.lane]} does; one lane, one object")
        lanes[scaled.lane] = scaled.name
        objects.append(scaled)
    return objects


def _read(resource: Resource) -> Scaled | None:
    if resource.kind == "ScaledObject":
        return _scaled_object(resource)
    if resource.kind == "ScaledJob":
        return _scaled_job(resource)
    return None


def _scaled_object(resource: Resource) -> ScaledObject:
    spec = resource.node.need("spec")
    spec.only(
        "scaleTargetRef",
        "pollingInterval",
        "initialCooldownPeriod",
        "cooldownPeriod",
        "minReplicaCount",
        "maxReplicaCount",
        "advanced",
        "triggers",
    )
    lane, group, triggers = _triggers(spec.need("triggers"))
    minimum, maximum = _integer(spec, "minReplicaCount", 0), _integer(spec, "maxReplicaCount", 100, least=1)
    _ordered(spec, minimum, maximum)
    advanced = spec.get("advanced") or Node(spec.file, "spec.advanced", {})
    advanced.only("horizontalPodAutoscalerConfig", "scalingModifiers", "restoreToOriginalReplicaCount")
    return ScaledObject(
        name=resource.name,
        lane=lane,
        group=group,
        triggers=triggers,
        polling_interval=_integer(spec, "pollingInterval", 30, least=1),
        min_replicas=minimum,
        max_replicas=maximum,
        cooldown=_integer(spec, "cooldownPeriod", 300),
        initial_cooldown=_integer(spec, "initialCooldownPeriod", 0),
        modifiers=_modifiers(advanced, triggers),
        behavior=_behavior(advanced),
    )


def _scaled_job(resource: Resource) -> ScaledJob:
    spec = resource.node.need("spec")
    spec.only(
        "jobTargetRef",
        "pollingInterval",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
        "rollout",
        "envSourceContainerName",
        "minReplicaCount",
        "maxReplicaCount",
        "scalingStrategy",
        "triggers",
    )
    lane, group, triggers = _triggers(spec.need("triggers"))
    minimum = _integer(spec, "minReplicaCount", 0)
    # KEDA subtracts the spares from maxReplicaCount only where it is set.
    maximum = _integer(spec, "maxReplicaCount", 100 + minimum, least=1)
    _ordered(spec, minimum, maximum)
    strategy = spec.get("scalingStrategy") or Node(spec.file, "spec.scalingStrategy", {})
    strategy.only("strategy", "multipleScalersCalculation", "pendingPodConditions")
    named, calculation = strategy.get("strategy"), strategy.get("multipleScalersCalculation")
    return ScaledJob(
        name=resource.name,
        lane=lane,
        group=group,
        triggers=triggers,
        polling_interval=_integer(spec, "pollingInterval", 30, least=1),
        min_replicas=minimum,
        max_replicas=maximum,
        strategy=Strategy.DEFAULT if named is None else named.choice(Strategy),
        calculation=Calculation.MAX if calculation is None else calculation.choice(Calculation),
    )


def _triggers(listed: Node) -> tuple[str, str, tuple[Trigger, ...]]:
    triggers: list[Trigger] = []
    lanes: list[tuple[str, str]] = []
    for node in listed.items(least=1):
        lane, trigger = _trigger(node)
        if trigger.name and trigger.name in {other.name for other in triggers}:
            node.need("name").wrong(f"{trigger.name!r} is taken by another trigger")
        triggers.append(trigger)
        lanes.append(lane)
        if lane != lanes[0]:
            node.need("metadata").wrong(f"looks at {lane}, the first trigger at {lanes[0]}; one object, one lane")
    return *lanes[0], tuple(triggers)


def _trigger(node: Node) -> tuple[tuple[str, str], Trigger]:
    node.only("type", "name", "metadata", "authenticationRef")
    if node.need("type").text() not in _TRIGGERS:
        node.need("type").wrong(f"is {node.need('type').text()!r}, must be one of: {', '.join(_TRIGGERS)}")
    metadata = node.need("metadata")
    metadata.only(*_METADATA, *_CONNECTION)
    stream = metadata.need("stream")
    lane = stream.text().removeprefix(LANE)
    if lane in {"", stream.text()}:
        stream.wrong(f"is {stream.text()!r}, must be {LANE}<lane>")
    name = node.get("name")
    lag = _quoted(metadata, "lagCount", 0)
    trigger = Trigger(
        name="" if name is None else name.text(),
        mode=TriggerMode.LAG if lag else TriggerMode.PENDING,
        target=lag or _quoted(metadata, "pendingEntriesCount", 5, least=1),
        activation=_quoted(metadata, "activationLagCount", 0),
    )
    return (lane, metadata.need("consumerGroup").text()), trigger


def _modifiers(advanced: Node, triggers: tuple[Trigger, ...]) -> ScalingModifiers | None:
    node = advanced.get("scalingModifiers")
    if node is None:
        return None
    node.only("formula", "target", "activationTarget", "metricType")
    metric_type = node.get("metricType")
    if metric_type is not None and metric_type.text() != "AverageValue":
        metric_type.wrong("must be AverageValue: the target is what one replica bears")
    formula, target, activation = node.need("formula"), node.need("target"), node.get("activationTarget")
    try:
        parsed = Formula.parse(formula.text(), [trigger.name for trigger in triggers if trigger.name])
    except FormulaError as error:
        formula.wrong(str(error))
    if target.quoted_number() < 0.001:
        target.wrong(f"is {target.text()!r}, must be greater than zero")
    return ScalingModifiers(parsed, target.quoted_number(), 0.0 if activation is None else activation.quoted_number())


def _behavior(advanced: Node) -> Behavior:
    config = advanced.get("horizontalPodAutoscalerConfig")
    if config is None:
        return Behavior()
    config.only("behavior", "name")
    node = config.get("behavior")
    if node is None:
        return Behavior()
    node.only("scaleUp", "scaleDown")
    return Behavior(
        up=_rules(node.get("scaleUp"), DEFAULT_SCALE_UP), down=_rules(node.get("scaleDown"), DEFAULT_SCALE_DOWN)
    )


def _rules(node: Node | None, default: ScalingRules) -> ScalingRules:
    if node is None:
        return default
    node.only("stabilizationWindowSeconds", "selectPolicy", "policies")
    select, policies = node.get("selectPolicy"), node.get("policies")
    return ScalingRules(
        window=_integer(node, "stabilizationWindowSeconds", default.window),
        policies=default.policies if policies is None else tuple(map(_policy, policies.items(least=1))),
        select=default.select if select is None else select.choice(SelectPolicy),
    )


def _policy(node: Node) -> ScalingPolicy:
    node.only("type", "value", "periodSeconds")
    return ScalingPolicy(
        type=node.need("type").choice(PolicyType),
        value=node.need("value").integer(least=1),
        period=node.need("periodSeconds").integer(least=1),
    )


def _integer(node: Node, name: str, default: int, *, least: int = 0) -> int:
    found = node.get(name)
    return default if found is None else found.integer(least=least)


def _quoted(node: Node, name: str, default: int, *, least: int = 0) -> int:
    found = node.get(name)
    return default if found is None else found.quoted_integer(least=least)


def _ordered(spec: Node, minimum: int, maximum: int) -> None:
    if minimum > maximum:
        spec.need("minReplicaCount").wrong(f"is {minimum}, more than maxReplicaCount ({maximum})")
