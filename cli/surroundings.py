"""Connects a dispatcher with the cluster that it runs in."""

from __future__ import annotations

from dispatcher.surroundings import Surroundings
from k8s.cluster import ask, in_this_pod, watch
from k8s.deletion_cost import DeletionCost
from k8s.pod_watch import PodWatch


def of_this_process() -> Surroundings:
    """What a pod with a token knows of its namespace; nothing anywhere else."""
    found = in_this_pod()
    if found is None:
        return Surroundings()
    namespace, api = found
    cost = DeletionCost(namespace, lambda path, body: ask(api, path, body, patch=True))
    pods = PodWatch(namespace, lambda path: watch(api, path))
    pods.start()
    return Surroundings(cost.follow, pods.why_idle, pods.phases_of)
