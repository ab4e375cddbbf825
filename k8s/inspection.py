"""Collects what `executor doctor` looks at in a cluster, as plain data in the API's own shape. Judges nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from k8s.cluster import Reply, ask

_LISTS: Final = {
    "scaledobjects": "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects",
    "scaledjobs": "/apis/keda.sh/v1alpha1/namespaces/{}/scaledjobs",
    "triggerauthentications": "/apis/keda.sh/v1alpha1/namespaces/{}/triggerauthentications",
    "deployments": "/apis/apps/v1/namespaces/{}/deployments",
    "jobs": "/apis/batch/v1/namespaces/{}/jobs",
    "pods": "/api/v1/namespaces/{}/pods",
    "events": "/api/v1/namespaces/{}/events?fieldSelector=type%3DWarning",
}
_OPERATOR: Final = "/apis/apps/v1/deployments?labelSelector=app.kubernetes.io%2Fname%3Dkeda-operator"
_OWN_NEEDS: Final = (
    *(("list", group, resource) for group, resource in (("keda.sh", "scaledobjects"), ("keda.sh", "scaledjobs"))),
    *(("list", "keda.sh", resource) for resource in ("triggerauthentications",)),
    *(("list", group, resource) for group, resource in (("apps", "deployments"), ("batch", "jobs"))),
    *(("list", "", resource) for resource in ("pods", "events")),
    ("get", "", "secrets"),
)
_DISPATCHER_NEEDS: Final = (
    *((verb, "", "pods") for verb in ("get", "list", "watch", "patch")),
    *((verb, "batch", "jobs") for verb in ("get", "list", "watch")),
)


class Inspector:
    """Reads one namespace. What the API server refuses is noted in `refused` and left out of the rest."""

    def __init__(self, api: Any, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    def collect(self) -> dict[str, Any]:
        """Everything; `error` alone when the API server cannot be asked."""
        version = ask(self._api, "/version")
        if not version.good:
            return {"error": f"{self._api.configuration.host}: {version.body}", "status": version.status}
        facts: dict[str, Any] = {"version": version.body.get("gitVersion", ""), "namespace": self._namespace}
        refused: dict[str, str] = {}
        facts["refused"] = refused
        facts["exists"] = ask(self._api, f"/api/v1/namespaces/{quote(self._namespace)}").status != 404
        keda = ask(self._api, "/apis/keda.sh/v1alpha1")
        facts["crds"] = sorted(item["name"] for item in keda.body["resources"]) if keda.good else []
        if not keda.good and keda.status != 404:
            refused["the kinds of KEDA"] = f"{keda.status}: {keda.body}"
        operators = ask(self._api, _OPERATOR)
        facts["operators"] = self._items(operators, "the KEDA operator", refused)
        for name, path in _LISTS.items():
            if name in ("scaledobjects", "scaledjobs", "triggerauthentications") and not facts["crds"]:
                facts[name] = []
                continue
            facts[name] = self._items(ask(self._api, path.format(quote(self._namespace))), name, refused)
        facts["clustertriggerauthentications"] = self._cluster_authentications(facts, refused)
        facts["secrets"] = self._secrets(facts["triggerauthentications"], refused)
        facts["access"] = self._access(facts["deployments"])
        return facts

    def _items(self, reply: Reply, name: str, refused: dict[str, str]) -> list[dict[str, Any]]:
        if reply.good:
            return list(reply.body.get("items") or [])
        refused[name] = f"{reply.status}: {reply.body}"
        return []

    def _cluster_authentications(self, facts: dict[str, Any], refused: dict[str, str]) -> list[dict[str, Any]]:
        """Only if something in the namespace refers to one: most people may not list them."""
        triggers = [
            trigger
            for item in (*facts["scaledobjects"], *facts["scaledjobs"])
            for trigger in item["spec"].get("triggers", [])
        ]
        if all(one.get("authenticationRef", {}).get("kind") != "ClusterTriggerAuthentication" for one in triggers):
            return []
        reply = ask(self._api, "/apis/keda.sh/v1alpha1/clustertriggerauthentications")
        return self._items(reply, "clustertriggerauthentications", refused)

    def _secrets(self, authentications: Iterable[dict[str, Any]], refused: dict[str, str]) -> dict[str, Any]:
        """Names of the keys of every Secret a TriggerAuthentication names; None where there is no such Secret."""
        refs = [ref for one in authentications for ref in one["spec"].get("secretTargetRef", [])]
        found: dict[str, Any] = {}
        for name in sorted({ref["name"] for ref in refs}):
            reply = ask(self._api, f"/api/v1/namespaces/{quote(self._namespace)}/secrets/{quote(name)}")
            if reply.good:
                found[name] = sorted(reply.body.get("data") or {})
            elif reply.status == 404:
                found[name] = None
            else:
                refused[f"secret {name}"] = f"{reply.status}: {reply.body}"
        return found

    def _access(self, deployments: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Who may do what: the caller, and the dispatcher's service account where one may ask about it."""
        rows = [self._may("", *need) for need in _OWN_NEEDS]
        for one in deployments:
            if not is_dispatcher(one):
                continue
            account = one["spec"]["template"]["spec"].get("serviceAccountName", "default")
            rows += [
                self._may(f"system:serviceaccount:{self._namespace}:{account}", *need) for need in _DISPATCHER_NEEDS
            ]
        return rows

    def _may(self, user: str, verb: str, group: str, resource: str) -> dict[str, Any]:
        kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
        attributes = {"namespace": self._namespace, "verb": verb, "group": group, "resource": resource}
        spec: dict[str, Any] = {"resourceAttributes": attributes}
        if user:
            spec |= {"user": user, "groups": ["system:serviceaccounts", f"system:serviceaccounts:{self._namespace}"]}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        reply = ask(self._api, f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body)
        allowed = reply.body.get("status", {}).get("allowed", False) if reply.good else None
        return {"user": user, "verb": verb, "group": group, "resource": resource, "allowed": allowed}


def is_dispatcher(deployment: dict[str, Any]) -> bool:
    """Whether a Deployment runs dispatchers, by its name or its label."""
    metadata = deployment["metadata"]
    name = metadata.get("labels", {}).get("app.kubernetes.io/name", "")
    return "dispatcher" in metadata["name"] or "dispatcher" in name
