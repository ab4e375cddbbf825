"""Each account may do what it needs and nothing else, asked of the API server itself."""

from __future__ import annotations

import pytest

from e2e.support.installation import OVERLAY, Installation

pytestmark = pytest.mark.timeout(300)

DISPATCHER = {
    ("pods", "get"),
    ("pods", "list"),
    ("pods", "watch"),
    ("pods", "patch"),
    ("jobs", "get"),
    ("jobs", "list"),
    ("jobs", "watch"),
}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
KINDS = ("pods", "jobs", "secrets", "configmaps", "deployments", "scaledjobs", "serviceaccounts")


@pytest.mark.parametrize("account", ["executor-dispatcher", "executor-worker", "executor-job", "executor-redis"])
def test_an_account_may_do_what_it_needs(installation: Installation, account: str) -> None:
    name = f"system:serviceaccount:{installation.kubectl.namespace}:{account}"
    granted = {
        (kind, verb)
        for kind in KINDS
        for verb in VERBS
        if installation.kubectl("auth", "can-i", verb, kind, f"--as={name}", check=False).strip() == "yes"
    }

    assert granted == (DISPATCHER if account == "executor-dispatcher" else set())


@pytest.mark.parametrize("part", ["exec", "log", "ephemeralcontainers"])
def test_the_dispatcher_may_not_enter_a_pod(installation: Installation, part: str) -> None:
    name = f"system:serviceaccount:{installation.kubectl.namespace}:executor-dispatcher"
    words = ("auth", "can-i", "create", "pods", f"--subresource={part}", f"--as={name}")

    assert installation.kubectl(*words, check=False).strip() == "no"


def test_only_the_dispatcher_has_a_token(installation: Installation) -> None:
    for pod in installation.kubectl.list("pods"):
        volumes = [volume["name"] for volume in pod["spec"].get("volumes", []) if "projected" in volume]
        is_dispatcher = pod["metadata"]["labels"].get("app.kubernetes.io/name") == "executor-dispatcher"
        assert bool(volumes) == is_dispatcher, pod["metadata"]["name"]


def test_the_api_server_takes_every_object_in_a_restricted_namespace(installation: Installation) -> None:
    namespace = installation.kubectl.get("namespace", installation.kubectl.namespace)
    answer = installation.apply(OVERLAY, "--dry-run=server")

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert "warning" not in answer.lower()
