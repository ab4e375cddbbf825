"""Follows the Jobs and pods of one namespace: when they came to be, for traces, and what keeps them from running.

The API server keeps times in whole seconds. What happens while this watches is known better: it lies between the
second that is stated and the moment it was seen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from k8s.cluster import WatchEnded

log = logging.getLogger("dispatcher")

LANE: Final = "executor.ai-orchestrator.io/lane"
"""Label of every worker's pod, and of the pods that a Job makes."""
_KEPT: Final = 4096
"""Pods, and Jobs, that are remembered; the oldest are forgotten, ended or not."""
_AGAIN: Final = 5.0
"""Seconds before a watch that failed is tried again."""
_ON_ITS_WAY: Final = ("ContainerCreating", "PodInitializing")
"""Reasons of a container that waits and is well."""

Events = Callable[[str], Iterator[tuple[str, dict[str, Any]]]]


@dataclass(slots=True)
class _Job:
    lane: str
    created_ns: int
    waits: bool = True
    """It has neither ended nor a pod."""


@dataclass(slots=True)
class _Pod:
    lane: str
    job: str
    created_ns: int
    scheduled_ns: int = 0
    trouble: str = ""
    gone: bool = False
    """It has ended, or was deleted."""


class PodWatch:
    """What is known of the pods of one namespace. Made of the same events, it answers the same."""

    def __init__(self, namespace: str, events: Events) -> None:
        """Know nothing yet.

        Args:
            namespace: where the workers are.
            events: watches a list of the API server (`k8s.cluster.watch`).
        """
        self._events = events
        self._sights = {
            f"/api/v1/namespaces/{namespace}/pods?labelSelector={LANE.replace('/', '%2F')}": self._see_pod,
            f"/apis/batch/v1/namespaces/{namespace}/jobs?": self._see_job,
        }
        self._jobs: dict[str, _Job] = {}
        self._pods: dict[str, _Pod] = {}

    def start(self) -> None:
        """Watch, on threads of its own that end with the process."""
        for path, see in self._sights.items():
            threading.Thread(target=self._follow, args=(path, see), name="pod-watch", daemon=True).start()

    def phases_of(self, pod: str) -> list[tuple[str, int]]:
        """The phases of a pod with their ends, ns on the wall clock, in order; empty when it was never seen."""
        known = self._pods.get(pod)
        if known is None:
            return []
        job = self._jobs.get(known.job)
        found = [("pod.scale", job.created_ns), ("pod.create", known.created_ns)] if job else []
        found = found or [("pod.scale", known.created_ns)]
        return [*found, ("pod.schedule", known.scheduled_ns)] if known.scheduled_ns else found

    def why_idle(self, lane: str) -> str:
        """What keeps the workers of a lane from starting, as the API server tells it."""
        pods = [(name, pod) for name, pod in list(self._pods.items()) if pod.lane == lane and not pod.gone]
        jobs = [name for name, job in list(self._jobs.items()) if job.lane == lane and job.waits]
        for name, pod in reversed(pods):
            if pod.trouble:
                return f"pod {name}: {pod.trouble}"
        if jobs:
            return f"Job {jobs[-1]} has no pod: `kubectl describe job {jobs[-1]}` says why"
        return "" if pods else "no pod was made for the lane: `executor doctor` looks at its scaling"

    def _follow(self, path: str, see: Callable[[dict[str, Any], bool], None]) -> None:
        complained = False
        while True:
            try:
                for kind, found in self._events(path):
                    complained = False
                    see(found, kind == "DELETED")
            except WatchEnded as error:
                if not complained:
                    log.warning("pods cannot be watched", extra={"reason": str(error)})
                complained = True
                time.sleep(_AGAIN)  # an API server that is away is not asked without pause

    def _see_job(self, job: dict[str, Any], gone: bool) -> None:
        meta, status = job["metadata"], job.get("status", {})
        lane = job["spec"]["template"]["metadata"].get("labels", {}).get(LANE, "")
        known = self._jobs.setdefault(meta["name"], _Job(lane, _moment(meta["creationTimestamp"])))
        known.waits = not (gone or status.get("conditions") or status.get("active") or status.get("terminating"))
        _forget_oldest(self._jobs)

    def _see_pod(self, pod: dict[str, Any], gone: bool) -> None:
        meta = pod["metadata"]
        job = next((one["name"] for one in meta.get("ownerReferences", []) if one["kind"] == "Job"), "")
        new = _Pod(meta["labels"].get(LANE, ""), job, _moment(meta["creationTimestamp"]))
        known = self._pods.setdefault(meta["name"], new)
        known.gone = gone or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        known.trouble = _trouble(pod)
        condition = _scheduled(pod)
        if condition.get("status") == "True" and not known.scheduled_ns:
            known.scheduled_ns = _moment(condition["lastTransitionTime"])
        _forget_oldest(self._pods)


def _scheduled(pod: dict[str, Any]) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = pod.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == "PodScheduled"), {})


def _trouble(pod: dict[str, Any]) -> str:
    """Why a pod does not start; empty when it does."""
    status, placed = pod.get("status", {}), _scheduled(pod)
    if placed.get("status") == "False":
        return f"{placed.get('reason', 'not scheduled')}: {placed.get('message', '')}"
    for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = one["state"].get("waiting", {})
        if waiting.get("reason", _ON_ITS_WAY[0]) not in _ON_ITS_WAY:
            return f"{waiting['reason']}: {waiting.get('message', '')}"
    return ""


def _moment(stated: str) -> int:
    """When something happened that is seen now, ns: within the stated second, and not after now."""
    second = int(datetime.fromisoformat(stated).timestamp()) * 1_000_000_000
    return max(second, min(time.time_ns(), second + 1_000_000_000))


def _forget_oldest(known: dict[str, Any]) -> None:
    while len(known) > _KEPT:
        del known[next(iter(known))]
