"""Tells the ReplicaSet which worker to take first: a busy one costs as many as it runs, an idle one nothing.

Which pod leaves when the HPA lowers a number is the ReplicaSet's choice, and the only word one has in it is the
annotation `controller.kubernetes.io/pod-deletion-cost` (Kubernetes, ReplicaSet, "Pod deletion cost"). Worker pods have
no token, so the dispatcher writes it. A wrong choice costs a hand-over, never a result, so nothing waits for this.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from k8s.cluster import Reply

log = logging.getLogger("dispatcher")

ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
_EVERY: Final = 5.0
"""Seconds between two rounds, however often the numbers change: each change is a write to the API server."""

Patch = Callable[[str, dict[str, Any]], Reply]


class DeletionCost:
    """Follows the load of workers whose names are pods of one namespace."""

    def __init__(self, namespace: str, patch: Patch) -> None:
        self._pods = f"/api/v1/namespaces/{namespace}/pods/"
        self._patch = patch
        self._written: dict[str, int] = {}
        self._due = 0.0
        self._round: asyncio.Task[None] | None = None

    def follow(self, busy: Mapping[str, int]) -> None:
        """Take the evaluations that each worker runs now; writes what changed, in the background.

        Args:
            busy: by pod name. A worker that is new here is written once it is busy.
        """
        if time.monotonic() < self._due or (self._round is not None and not self._round.done()):
            return
        self._written = {pod: cost for pod, cost in self._written.items() if pod in busy}
        changed = {pod: cost for pod, cost in busy.items() if self._written.get(pod, 0) != cost}
        if changed:
            self._due = time.monotonic() + _EVERY
            self._round = asyncio.create_task(asyncio.to_thread(self._write, changed), name="deletion-cost")

    def _write(self, changed: Mapping[str, int]) -> None:
        for pod, cost in changed.items():
            reply = self._patch(self._pods + pod, {"metadata": {"annotations": {ANNOTATION: str(cost)}}})
            self._written[pod] = cost  # whatever came of it: the next change tries again
            if not reply.good:
                log.warning("a pod's deletion cost was not written", extra={"pod": pod, "reason": reply.body})
