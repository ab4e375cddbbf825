"""What k8s/ renders to: restricted pods, Secrets by reference, and lanes that KEDA's objects watch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from executor import keys
from executor.settings import WorkerSettings
from keda.manifests import load

ROOT = Path(__file__).parents[2]
OVERLAYS = ("overlays/local", "overlays/cluster")
Manifest = dict[str, Any]

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders the manifests; install it")


@cache
def _rendered(folder: str) -> list[Manifest]:
    return _kustomize(ROOT / "k8s" / folder)


def _kustomize(folder: Path) -> list[Manifest]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _of_kind(objects: list[Manifest], *kinds: str) -> list[Manifest]:
    return [one for one in objects if one["kind"] in kinds]


def _name(one: Manifest) -> str:
    return str(one["metadata"]["name"])


def _templates(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """(name, pod template) of everything that makes pods."""
    for one in _of_kind(objects, "Deployment", "StatefulSet"):
        yield _name(one), one["spec"]["template"]
    for one in _of_kind(objects, "ScaledJob"):
        yield _name(one), one["spec"]["jobTargetRef"]["template"]


def _containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Manifest]:
    return _rendered(request.param)


def test_every_object_is_in_the_namespace(objects: list[Manifest]) -> None:
    for one in objects:
        where = one["metadata"]["name"] if one["kind"] == "Namespace" else one["metadata"]["namespace"]
        assert where == "executor-system", (one["kind"], _name(one))


def test_the_namespace_admits_restricted_pods_only(objects: list[Manifest]) -> None:
    (namespace,) = _of_kind(objects, "Namespace")

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_pod_is_restricted_and_its_root_read_only(objects: list[Manifest]) -> None:
    for name, template in _templates(objects):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        assert all(set(volume) & {"emptyDir", "configMap", "secret"} for volume in pod.get("volumes", [])), name
        for container in _containers(pod):
            wall = container["securityContext"]
            assert wall["allowPrivilegeEscalation"] is False, (name, container["name"])
            assert wall["readOnlyRootFilesystem"] is True, (name, container["name"])
            assert wall["capabilities"] == {"drop": ["ALL"]}, (name, container["name"])


def test_only_dispatchers_have_a_token(objects: list[Manifest]) -> None:
    accounts = {_name(one): one for one in _of_kind(objects, "ServiceAccount")}
    for name, template in _templates(objects):
        pod = template["spec"]
        account = accounts.get(pod.get("serviceAccountName", ""), {})
        mounted = pod.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        assert mounted is (name == "executor-dispatcher"), name


def test_a_dispatcher_may_look_at_pods_and_jobs_and_mark_pods(objects: list[Manifest]) -> None:
    (role,) = _of_kind(objects, "Role")

    allowed = {(kind, verb) for rule in role["rules"] for kind in rule["resources"] for verb in rule["verbs"]}

    pods = {("pods", verb) for verb in ("get", "list", "watch", "patch")}
    assert allowed == pods | {("jobs", verb) for verb in ("get", "list", "watch")}
    assert not _of_kind(objects, "ClusterRole", "ClusterRoleBinding")


def test_every_container_has_requests_and_limits(objects: list[Manifest]) -> None:
    for name, template in _templates(objects):
        for container in _containers(template["spec"]):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), (name, container["name"])
            assert {"cpu", "memory"} <= set(resources["limits"]), (name, container["name"])


def test_every_long_lived_container_is_probed(objects: list[Manifest]) -> None:
    for one in _of_kind(objects, "Deployment", "StatefulSet"):
        for container in one["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), _name(one)


def test_no_scratch_volume_is_without_bounds(objects: list[Manifest]) -> None:
    for name, template in _templates(objects):
        for volume in template["spec"].get("volumes", []):
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], (name, volume["name"])


def test_passwords_are_referred_to_and_never_written() -> None:
    base = _rendered("overlays/cluster")

    assert not _of_kind(base, "Secret")
    for name, template in _templates(base):
        for container in _containers(template["spec"]):
            for variable in container.get("env", []):
                if variable["name"].endswith(("_URL", "PASSWORD")):
                    assert "secretKeyRef" in variable["valueFrom"], (name, variable["name"])


def test_the_local_overlay_has_every_secret_that_is_referred_to() -> None:
    local = _rendered("overlays/local")
    there = {(_name(one), key) for one in _of_kind(local, "Secret") for key in one["data"]}

    wanted = {
        (ref["name"], ref["key"])
        for _, template in _templates(local)
        for container in _containers(template["spec"])
        for variable in container.get("env", [])
        if (ref := variable.get("valueFrom", {}).get("secretKeyRef")) and not ref.get("optional")
    }
    for one in _of_kind(local, "TriggerAuthentication"):
        wanted |= {(ref["name"], ref["key"]) for ref in one["spec"]["secretTargetRef"]}

    assert wanted <= there


def test_a_pool_serves_the_lane_that_its_scaler_watches(objects: list[Manifest]) -> None:
    deployments = {_name(one): one for one in _of_kind(objects, "Deployment")}
    pools = _of_kind(objects, "ScaledObject")
    assert pools
    for pool in pools:
        target = deployments[pool["spec"]["scaleTargetRef"]["name"]]
        (container,) = target["spec"]["template"]["spec"]["containers"]
        (lane,) = [item["value"] for item in container["env"] if item["name"] == "EXECUTOR_LANE"]

        assert "replicas" not in target["spec"], "KEDA and the HPA own the number"
        assert {one["metadata"]["stream"] for one in pool["spec"]["triggers"]} == {keys.Keys().lane(lane)}
        target_slots = pool["spec"]["advanced"]["scalingModifiers"]["target"]
        assert container["resources"]["limits"]["cpu"] == target_slots, "slots = CPU limit = what the formula aims at"


def test_every_worker_deployment_has_a_scaler(objects: list[Manifest]) -> None:
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in _of_kind(objects, "ScaledObject")}

    assert scaled == {_name(one) for one in _of_kind(objects, "Deployment") if _name(one).startswith("worker-")}


def test_a_pod_is_given_longer_than_its_worker_takes_to_stop(objects: list[Manifest]) -> None:
    for name, template in _templates(objects):
        if name.startswith("worker-"):
            assert template["spec"]["terminationGracePeriodSeconds"] > WorkerSettings().grace, name


def test_policies_of_both_overlays_load(tmp_path: Path) -> None:
    from dispatcher.policy import load_policy

    for overlay, trusted in zip(OVERLAYS, (True, False), strict=True):
        (found,) = [one for one in _of_kind(_rendered(overlay), "ConfigMap") if "policy.yaml" in one["data"]]
        path = tmp_path / "policy.yaml"
        path.write_text(found["data"]["policy.yaml"])
        assert load_policy(str(path)).tenants["default"].trusted is trusted


def test_every_setting_in_the_config_exists() -> None:
    from executor.settings import Settings, described

    known = {row[0] for row in described(Settings())}
    for folder in OVERLAYS:
        for one in _of_kind(_rendered(folder), "ConfigMap"):
            if _name(one) == "executor-config":
                assert set(one["data"]) <= known


def _with_components(overlay: str, *components: str) -> list[Manifest]:
    # kustomize reads no folder outside the tree of the one it builds by an absolute path
    folder = ROOT / "k8s" / f".test-{'-'.join(components)}-{Path(overlay).name}"
    folder.mkdir()
    try:
        lines = [
            f"resources: [../{overlay}]",
            f"components: [{', '.join(f'../components/{one}' for one in components)}]",
        ]
        (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        return _kustomize(folder)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("component", ["jaeger", "managed-redis"])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_components_fit_every_overlay(component: str, overlay: str) -> None:
    found = _with_components(overlay, component)

    names = {(one["kind"], _name(one)) for one in found}
    assert (("Deployment", "jaeger") in names) is (component == "jaeger")
    assert (("StatefulSet", "executor-redis") in names) is (component != "managed-redis")
    if component == "jaeger":
        (config,) = [one for one in found if _name(one) == "executor-config"]
        assert config["data"]["EXECUTOR_TRACES"] == "http://jaeger:4318"
        test_every_pod_is_restricted_and_its_root_read_only(found)


@pytest.mark.parametrize("more", [(), ("redis-ca",), ("sentinel",), ("redis-ca", "sentinel")])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_redis_elsewhere_is_reached_as_it_says(overlay: str, more: tuple[str, ...], tmp_path: Path) -> None:
    """The parameters are those of KEDA 2.21 (pkg/scalers/redis_scaler.go); TLS is asked for in one place only."""
    found = _with_components(overlay, "managed-redis", *more)

    (authentication,) = _of_kind(found, "TriggerAuthentication")
    parameters = {one["parameter"] for one in authentication["spec"]["secretTargetRef"]}
    triggers = [one for scaled in _of_kind(found, "ScaledObject", "ScaledJob") for one in scaled["spec"]["triggers"]]
    sentinel, private = "sentinel" in more, "redis-ca" in more
    assert triggers
    assert {one["type"] for one in triggers} == {"redis-sentinel-streams" if sentinel else "redis-streams"}
    assert parameters >= {"username", "password", "addresses" if sentinel else "address"}
    assert ({"sentinelMaster", "sentinelPassword"} <= parameters) is sentinel
    assert ({"tls", "ca"} <= parameters) is private
    assert all(("enableTLS" in one["metadata"]) is not private for one in triggers)
    mounts = [
        (name, container["name"])
        for name, template in _templates(found)
        for container in _containers(template["spec"])
        if any(one["mountPath"] == "/etc/executor-redis" for one in container["volumeMounts"])
    ]
    assert all(container != "evaluation" for _, container in mounts)
    assert len(mounts) == (len(list(_templates(found))) if private else 0)
    (policy,) = [one for one in _of_kind(found, "NetworkPolicy") if _name(one) == "to-redis"]
    assert ({"port": 26379} in policy["spec"]["egress"][0]["ports"]) is sentinel
    test_every_pod_is_restricted_and_its_root_read_only(found)
    scaled = [one for one in found if one["kind"] in ("ScaledObject", "ScaledJob")]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(scaled))
    (tmp_path / "kustomization.yaml").write_text("resources: [all.yaml]\n")
    assert len(load(tmp_path)) == len(scaled), "the local autoscaler reads them as well"
