"""Follows when Jobs and pods come to be, for the traces of the evaluations that waited for them.

The API server keeps such times in whole seconds. What happens while this watches is known better: it lies between the
second that is stated and the moment it was seen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

from k8s.cluster import WatchEnded, in_this_pod, watch

log = logging.getLogger("dispatcher")

_KEPT: Final = 4096
"""Pods, and Jobs, that are remembered; the oldest are forgotten, ended or not."""
_AGAIN: Final = 5.0
"""Seconds before a watch that failed is tried again."""

Events = Callable[[str], Iterator[tuple[str, dict[str, Any]]]]


class PodPhases:
    """What is known of the pods of one namespace."""

    def __init__(self, namespace: str, events: Events) -> None:
        self._events = events
        self._paths = {
            f"/api/v1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io%2Fpart-of%3Dexecutor": self._see_pod,
            f"/apis/batch/v1/namespaces/{namespace}/jobs?": self._see_job,
        }
        self._jobs: dict[str, int] = {}
        self._pods: dict[str, dict[str, Any]] = {}

    def start(self) -> None:
        """Watch, on threads of its own that end with the process."""
        for path, see in self._paths.items():
            threading.Thread(target=self._follow, args=(path, see), name="pod-phases", daemon=True).start()

    def of(self, pod: str) -> list[tuple[str, int]]:
        """The phases of a pod with their ends, ns on the wall clock; empty when it was never seen."""
        known = self._pods.get(pod, {})
        ends = [
            ("pod.scale", self._jobs.get(known.get("job", ""))),
            ("pod.create" if known.get("job") in self._jobs else "pod.scale", known.get("created")),
            ("pod.schedule", known.get("scheduled")),
        ]
        return [(name, end) for name, end in ends if end is not None]

    def _follow(self, path: str, see: Callable[[dict[str, Any]], None]) -> None:
        complained = False
        while True:
            try:
                for kind, found in self._events(path):
                    complained = False
                    if kind != "DELETED":
                        see(found)
            except WatchEnded as error:
                if not complained:
                    log.warning("pods cannot be watched; traces lack their phases", extra={"reason": str(error)})
                complained = True
                time.sleep(_AGAIN)  # an API server that is away is not asked without pause

    def _see_job(self, job: dict[str, Any]) -> None:
        meta = job["metadata"]
        self._jobs.setdefault(meta["name"], _moment(meta["creationTimestamp"]))
        _forget_oldest(self._jobs)

    def _see_pod(self, pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        known = self._pods.setdefault(meta["name"], {})
        known.setdefault("created", _moment(meta["creationTimestamp"]))
        known["job"] = next((one["name"] for one in meta.get("ownerReferences", []) if one["kind"] == "Job"), "")
        for condition in pod.get("status", {}).get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "True":
                known.setdefault("scheduled", _moment(condition["lastTransitionTime"]))
        _forget_oldest(self._pods)


def _moment(stated: str) -> int:
    """When something happened that is seen now, ns: within the stated second, and not after now."""
    second = int(datetime.fromisoformat(stated).timestamp()) * 1_000_000_000
    return max(second, min(time.time_ns(), second + 1_000_000_000))


def _forget_oldest(known: dict[str, Any]) -> None:
    while len(known) > _KEPT:
        del known[next(iter(known))]


def of_this_pod() -> PodPhases | None:
    """For a program that runs in a pod with a token; None anywhere else."""
    found = in_this_pod()
    if found is None:
        return None
    namespace, api = found
    return PodPhases(namespace, lambda path: watch(api, path))
