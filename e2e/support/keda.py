"""KEDA's operator, taken away and brought back; the cluster's own, so scenarios with it run one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.support.kubectl import Kubectl


def restart_operator(kubectl: Kubectl) -> None:
    """Restart it and wait until it serves again; it begins with nothing in memory, connections included."""
    name, where, _ = _operator(kubectl)
    kubectl("rollout", "restart", name, *where)
    kubectl("rollout", "status", name, "--timeout=120s", *where)


@contextmanager
def without_operator(kubectl: Kubectl) -> Iterator[None]:
    """Nobody scales meanwhile."""
    name, where, spec = _operator(kubectl)
    kubectl("scale", name, "--replicas=0", *where)
    try:
        yield
    finally:
        kubectl("scale", name, f"--replicas={spec['replicas']}", *where)
        kubectl("rollout", "status", name, "--timeout=120s", *where)


def _operator(kubectl: Kubectl) -> tuple[str, tuple[str, str], dict[str, Any]]:
    (found,) = kubectl.list("deployments", "-l", "app.kubernetes.io/name=keda-operator", "--all-namespaces")
    meta = found["metadata"]
    return f"deployment/{meta['name']}", ("-n", meta["namespace"]), found["spec"]
