"""Trace context in every message, and the spans of one evaluation.

The context travels as a W3C traceparent (https://www.w3.org/TR/trace-context/). Spans are made with explicit start
and end times, because most of an evaluation's phases begin in one process and end in another. Their ids are derived
from the context and a key instead of drawn, so that every program knows the id of a span that another one records,
and nothing more than the traceparent has to travel.

The tree of one evaluation:

    send (the client) or the caller's own span
    └── evaluate          first entry to commit; the root of a trace whose caller sent no context
        ├── submit        ingress entry to a dispatcher's read
        ├── dispatch      that read to the decision
        ├── attempt       time of the attempts before this one, which left no result
        ├── queue         the decision (or the requeue) to the worker's read
        │   └── ...       what a wait for a worker's start was made of (dispatcher/pods.py)
        ├── claim         that read to the lease
        ├── sandbox.start the wait for a child or its container, where there was one
        ├── run           the code; links to `attempt` when there was one
        └── commit        its end to the committed result

Each phase begins where the one before it ends: the dispatcher puts the times it saw into the record's payload. They
are the wall clocks of the server (entry ids), the dispatcher and the worker, so that a clock that is off moves what is
between two hosts (`submit`, `queue`) and never what is within one.

Without an exporter nothing is recorded and the OpenTelemetry SDK is
not imported; with one, it is imported by the exporting thread (executor/tracing/outbox.py).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from typing import Final

from executor.keys import AGAIN_PATTERN
from executor.tracing.outbox import Kind, Outbox, Span, Value, sink_for

__all__ = [
    "Tracer",
    "Value",
    "entry_ns",
    "evaluation_context",
    "is_sampled",
    "messaging",
    "new_traceparent",
    "now_ns",
    "span_context",
]

_WELL_FORMED: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_SAMPLED_DIGITS: Final = frozenset("13579bdf")
"""Last digit of the flags when the lowest bit, `sampled`, is set."""


def new_traceparent(ratio: float = 1.0) -> str:
    """A context for a caller that sent none; its span is the `evaluate` of the one evaluation it is for.

    Args:
        ratio: part of the contexts that are sampled, decided by the trace id as TraceIdRatioBased does.
    """
    trace_id = secrets.token_hex(16)
    flags = "01" if int(trace_id[16:], 16) < round(ratio * 2**64) else "00"
    return f"00-{trace_id}-{_root_id(trace_id)}-{flags}"


def is_sampled(traceparent: str) -> bool:
    """Whether the spans of this context are to be recorded."""
    return traceparent[54:55] in _SAMPLED_DIGITS


def span_context(parent: str, key: str) -> str:
    """The context of the span that a key names under a context: the same in every program."""
    digest = hashlib.sha256(f"{parent[:52]}/{key}".encode()).hexdigest()
    return f"{parent[:36]}{digest[:16]}{parent[52:55]}"


def evaluation_context(traceparent: str, tenant: str, evaluation_id: str) -> str:
    """The context of an evaluation's `evaluate` span, from the one its messages carry."""
    # What is run again has the context of the first time, whose spans are there already: it is a child of those.
    if traceparent[36:52] == _root_id(traceparent[3:35]) and AGAIN_PATTERN.fullmatch(evaluation_id) is None:
        return traceparent
    return span_context(traceparent, f"{tenant}/{evaluation_id}")


def _root_id(trace_id: str) -> str:
    return hashlib.sha256(f"{trace_id}/evaluate".encode()).hexdigest()[:16]


def now_ns() -> int:
    """Wall clock for span times, ns since the epoch; never used for decisions."""
    return time.time_ns()


def entry_ns(entry_id: str) -> int:
    """When a stream entry was added: the middle of the millisecond that its id tells."""
    return int(entry_id.partition("-")[0]) * 1_000_000 + 500_000


def messaging(
    operation: str, name: str, destination: str, message_id: str, tenant: str, evaluation_id: str, group: str = ""
) -> dict[str, Value]:
    """Attributes of a span about a stream entry, by OpenTelemetry's messaging conventions.

    Args:
        operation: `send`, `receive`, `process` or `settle`; empty for a wait.
        name: the system's own word for it (XADD).
        destination: stream or lane.
        message_id: id of the entry.
        tenant: of the evaluation.
        evaluation_id: becomes the conversation id, which all spans of the evaluation share.
        group: consumer group, for what a consumer does.
    """
    found: dict[str, Value] = {
        "messaging.destination.name": destination,
        "messaging.message.conversation_id": evaluation_id,
        "executor.tenant": tenant,
    }
    if operation:
        found["messaging.system"] = "redis"
        found["messaging.operation.type"] = operation
        found["messaging.operation.name"] = name
        found["messaging.message.id"] = message_id
    if group:
        found["messaging.consumer.group.name"] = group
    return found


class Tracer:
    """Records spans of one program.

    Attributes:
        enabled: whether anything is recorded; hot paths ask first.
    """

    def __init__(self, program: str, exporter: str = "none", instance: str = "") -> None:
        """Make a tracer.

        Args:
            program: `service.name` of the spans.
            exporter: `none`; a file that gets one JSON object per line and span; or `http(s)://host:4318`, a collector
                that takes OTLP over HTTP.
            instance: `service.instance.id`; random when empty.

        Raises:
            Misconfigured: the file cannot be written.
        """
        self.enabled = exporter not in ("", "none")
        self._outbox = Outbox(sink_for(program, instance, exporter)) if self.enabled else None

    def wants(self, traceparent: str) -> bool:
        """Whether spans under this context are recorded here."""
        return (
            self.enabled and traceparent[54:55] in _SAMPLED_DIGITS and _WELL_FORMED.fullmatch(traceparent) is not None
        )

    def span(
        self,
        name: str,
        parent: str,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, Value] | None = None,
        *,
        context: str = "",
        kind: Kind = "internal",
        error: str = "",
        link: str = "",
    ) -> str:
        """Record one finished span; returns at once, whatever the exporter does.

        Args:
            name: of the span.
            parent: context it is under.
            start_ns: wall clock.
            end_ns: wall clock.
            attributes: facts.
            context: its own, from `span_context` or `evaluation_context`; random when empty. The same as `parent`
                makes it the root of its trace.
            kind: its role in the message's way.
            error: why it counts as failed; empty when it does not.
            link: context of a span that it follows from.

        Returns:
            The traceparent of the new span, for its children; the given one when nothing is recorded.
        """
        if self._outbox is None or not is_sampled(parent):
            return context or parent
        context = context or span_context(parent, secrets.token_hex(8))
        self._outbox.put(Span(name, context, parent, start_ns, end_ns, attributes or {}, kind, error, link))
        return context

    def ended_unrun(
        self, traceparent: str, destination: str, entry_id: str, tenant: str, evaluation_id: str, outcome: str
    ) -> None:
        """Record the `evaluate` of an evaluation that no worker ended: rejected, cancelled in the queue, or lost.

        Args:
            traceparent: that its messages carry.
            destination: ingress stream.
            entry_id: of its entry there, which is when it began; without one nothing is recorded.
            tenant: of the evaluation.
            evaluation_id: of the evaluation.
            outcome: how it ended, now.
        """
        if not entry_id or not self.wants(traceparent):
            return
        whole = evaluation_context(traceparent, tenant, evaluation_id)
        facts = messaging("process", "evaluate", destination, entry_id, tenant, evaluation_id)
        facts["executor.outcome"] = outcome
        end, error = now_ns(), "" if outcome == "cancelled" else outcome
        start = min(entry_ns(entry_id), end)
        self.span("evaluate", traceparent, start, end, facts, context=whole, kind="consumer", error=error)

    def close(self) -> None:
        """Send what is recorded; waits `FLUSH` seconds at most."""
        if self._outbox is not None:
            self._outbox.close()
