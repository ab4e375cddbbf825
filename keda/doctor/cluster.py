"""Judges what surrounds the KEDA objects: KEDA itself, credentials, the dispatcher, rights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from executor.fitness import version
from keda.doctor.finding import Finding, error, ok, warn

LEAST: Final = (2, 20, 2)
_KINDS: Final = ("scaledobjects", "scaledjobs", "triggerauthentications")
_INSTALL: Final = (
    "helm repo add kedacore https://kedacore.github.io/charts && "
    "helm install keda kedacore/keda --namespace keda --create-namespace"
)

Object = dict[str, Any]


def judge_cluster(facts: dict[str, Any]) -> list[Finding]:
    """Every finding about a cluster, apart from scaling and what happened."""
    if "error" in facts:
        hint = "check KUBECONFIG, or leave the cluster out: executor doctor --no-cluster"
        return [
            error("cluster", f"the API server cannot be asked: {facts['error']}", "nothing of it can be seen", hint)
        ]
    found = [ok("cluster", f"Kubernetes {facts['version']}, namespace {facts['namespace']}"), *_namespace(facts)]
    found += [*_keda(facts), *_refusals(facts["refused"])]
    for one in (*facts["scaledobjects"], *facts["scaledjobs"]):
        found += _references(one, facts)
    for one in facts["triggerauthentications"]:
        found += _authentication(one, facts)
    return [*found, *_dispatcher(facts), *_access(facts["access"], facts["namespace"])]


def _namespace(facts: dict[str, Any]) -> Iterator[Finding]:
    if not facts["exists"]:
        yield error(
            "cluster",
            f"there is no namespace {facts['namespace']}",
            "there is nothing to examine",
            "kubectl get namespaces, then: executor doctor --namespace NAME",
        )
    elif facts["crds"] and not any(facts[kind] or kind in facts["refused"] for kind in ("scaledobjects", "scaledjobs")):
        yield warn(
            "cluster",
            f"no ScaledObject or ScaledJob in {facts['namespace']}",
            "nothing scales here",
            "kubectl get scaledobjects,scaledjobs --all-namespaces, then: executor doctor --namespace NAME",
        )


def _keda(facts: dict[str, Any]) -> Iterator[Finding]:
    absent = [kind for kind in _KINDS if kind not in facts["crds"]]
    if absent and "the kinds of KEDA" not in facts["refused"]:
        yield error("KEDA", f"its kinds are absent: {', '.join(absent)}", "nothing can scale from zero", _INSTALL)
        return
    if not facts["operators"]:
        if "the KEDA operator" not in facts["refused"]:
            yield error("KEDA", "its kinds are here, its operator is not", "nothing looks at them", _INSTALL)
        return
    for operator in facts["operators"]:
        yield from _operator(operator)


def _operator(operator: Object) -> Iterator[Finding]:
    meta = operator["metadata"]
    where = f"{meta['namespace']}/{meta['name']}"
    if not operator.get("status", {}).get("availableReplicas"):
        yield error(
            "KEDA",
            f"its operator {where} has no available replica",
            "nothing starts from zero and nothing goes back to it",
            f"kubectl -n {meta['namespace']} describe deployment {meta['name']}",
        )
    image = operator["spec"]["template"]["spec"]["containers"][0]["image"]
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    label = (meta.get("labels") or {}).get("app.kubernetes.io/version", "")
    found = version(tag) or version(label)
    if not found:
        yield warn(
            "KEDA",
            f"the version of {where} is not told (image {image}, label {label or 'none'})",
            "2.20.2 or later is needed: before, a nil lag reaches the HPA as -1 (keda#7880) and strategy default is "
            "rejected (keda#7855)",
            f"kubectl -n {meta['namespace']} logs deployment/{meta['name']} | grep -i version",
        )
    elif found < LEAST:
        yield error(
            "KEDA",
            f"{where} is {'.'.join(map(str, found))}",
            "before 2.20.2 a nil lag reaches the HPA as -1 (keda#7880), strategy default is rejected (keda#7855), "
            "custom can crash it (keda#7798)",
            "helm repo update && helm upgrade keda kedacore/keda --namespace " + meta["namespace"],
        )
    else:
        yield ok("KEDA", f"{where} is {'.'.join(map(str, found))}")


def _refusals(refused: dict[str, str]) -> Iterator[Finding]:
    if refused:
        yield warn(
            "access",
            f"could not look at {', '.join(refused)}: {next(iter(refused.values()))}",
            "what is not looked at may be wrong",
            "use a KUBECONFIG that may, or ask for the right",
        )


def _references(one: Object, facts: dict[str, Any]) -> Iterator[Finding]:
    about = f"{one['kind']} {one['metadata']['name']}"
    for trigger in one["spec"].get("triggers", []):
        ref = trigger.get("authenticationRef")
        if ref is None:
            continue
        kind = ref.get("kind", "TriggerAuthentication")
        plural = kind.lower() + "s"
        if plural not in facts["refused"] and all(item["metadata"]["name"] != ref["name"] for item in facts[plural]):
            yield error(
                about,
                f"there is no {kind} {ref['name']}",
                "KEDA cannot reach the queue server",
                "apply your overlay of k8s/ again: keda/base is in it",
            )
            return


def _authentication(one: Object, facts: dict[str, Any]) -> Iterator[Finding]:
    about = f"TriggerAuthentication {one['metadata']['name']}"
    namespace, good = facts["namespace"], True
    needed: dict[str, list[str]] = {}
    for ref in one["spec"].get("secretTargetRef", []):
        needed.setdefault(ref["name"], []).append(ref["key"])
    for name, keys in needed.items():
        if f"secret {name}" in facts["refused"]:
            good = False
            continue
        found = facts["secrets"].get(name)
        missing = keys if found is None else [key for key in keys if key not in found]
        if missing:
            good = False
            literals = " ".join(f"--from-literal={key}=..." for key in missing)
            command = f"kubectl -n {namespace} create secret generic {name} {literals}"
            edit = f"kubectl -n {namespace} edit secret {name}"
            yield error(
                about,
                f"there is no Secret {name}" if found is None else f"Secret {name} has no {', '.join(missing)}",
                "KEDA takes what is missing for empty: it cannot reach the queue server, or is refused",
                command if found is None else edit,
            )
    if good:
        yield ok(about, "every Secret and key it names is there")


def _dispatcher(facts: dict[str, Any]) -> Iterator[Finding]:
    if "deployments" in facts["refused"]:
        return
    namespace = facts["namespace"]
    found = [one for one in facts["deployments"] if "dispatcher" in one["metadata"]["name"]]
    if not found:
        yield warn(
            "dispatcher",
            f"no Deployment with dispatcher in its name in {namespace}",
            "unless one runs elsewhere, requests wait in ingress",
            f"kubectl -n {namespace} get deployments",
        )
    for one in found:
        name, status = one["metadata"]["name"], one.get("status", {})
        wanted = one["spec"].get("replicas", 1)
        available = status.get("availableReplicas", 0)
        if not available:
            yield error(
                "dispatcher",
                f"Deployment {name} has no available replica of {wanted}",
                "nobody admits requests, and nobody rescues what dies",
                f"kubectl -n {namespace} describe deployment {name}"
                if wanted
                else f"kubectl -n {namespace} scale deployment {name} --replicas=1",
            )
        else:
            yield ok("dispatcher", f"Deployment {name} has {available} of {wanted} replicas available")


def _access(rows: list[dict[str, Any]], namespace: str) -> Iterator[Finding]:
    denied: dict[str, list[str]] = {}
    unknown = sorted({row["user"] for row in rows if row["allowed"] is None})
    for row in rows:
        if row["allowed"] is False:
            resource = f"{row['resource']}.{row['group']}" if row["group"] else row["resource"]
            denied.setdefault(row["user"], []).append(f"{row['verb']} {resource}")
    for user, needs in denied.items():
        verb, resource = needs[0].split(" ")
        test = f"kubectl -n {namespace} auth can-i {verb} {resource}"
        who = f"the dispatcher ({user})" if user else "you"
        yield warn(
            "access",
            f"{who} may not: {', '.join(needs)}",
            "busy pods cannot be marked as the last to go" if user else "what is not looked at may be wrong",
            f"{test} --as={user}; then a Role and a RoleBinding" if user else test,
        )
    for user in unknown:
        who = user or "you"
        yield warn("access", f"may not ask what {who} may do", "a missing right shows only when it is used")
    if rows and not denied and not unknown:
        yield ok("access", f"all {len(rows)} rights that were asked for are there")
