"""Completes the trace of an evaluation that waited for a pod: what the wait was made of.

queue
├── pod.scale      the wait's begin to the Job, or to the pod of a warm pool: the scaler's look and the controllers'
├── pod.create     the Job to its pod
├── pod.schedule   the pod to its place on a node
├── pod.start      that to the worker's process: image, sandbox, network, volumes
└── worker.start   (the worker's own) its process to its first read
"""

from __future__ import annotations

import logging

from dispatcher.surroundings import PhasesOf
from executor.errors import CorruptEntry, ExecutorError
from executor.outage import Outage
from executor.streams.starts import Starts, WorkerStart
from executor.tracing import Tracer, messaging

log = logging.getLogger("dispatcher")

_PATIENCE = 2.0


class PodStarts:
    """Takes the notes of workers; each is completed by one dispatcher."""

    def __init__(self, starts: Starts, phases_of: PhasesOf, tracer: Tracer) -> None:
        self._starts = starts
        self._phases_of = phases_of
        self._tracer = tracer
        self._outage = Outage("pods")

    async def serve(self) -> None:
        """Take and record until cancelled."""
        while True:
            try:
                for start in await self._starts.take(_PATIENCE):
                    self._record(start)
                self._outage.over()
            except (CorruptEntry, KeyError) as error:
                log.warning("a worker's start cannot be read", extra={"error": repr(error)})
            except ExecutorError as error:
                await self._outage.wait(error)

    def _record(self, start: WorkerStart) -> None:
        phases = self._phases_of(start.worker)
        begin = start.queued_ns
        facts = messaging("", "", start.lane, "", start.tenant, start.id)
        facts |= {"executor.attempt": start.attempt, "k8s.pod.name": start.worker}
        for name, seen in [*phases, ("pod.start", start.began_ns)] if phases else []:
            end = min(seen, start.began_ns)
            if end > begin:  # of a phase that was over before the wait began, nothing was waited for
                self._tracer.span(name, start.context, begin, end, facts)
                begin = end
