"""The spans of one attempt, made once it is committed and from the times it was seen to pass."""

from __future__ import annotations

from executor.result import EvaluationResult
from executor.streams.lane import Lease
from executor.tracing import Tracer, now_ns


def trace_attempt(tracer: Tracer, lease: Lease, result: EvaluationResult, read_ns: int, ended_ns: int) -> None:
    """Record queue, claim, run and commit under the context that the lane entry carried.

    Args:
        tracer: records.
        lease: of the attempt.
        result: as committed.
        read_ns: when the entry was read.
        ended_ns: when the process tree had ended.
    """
    context = lease.entry.traceparent
    run_ns = ended_ns - int(result.duration_ms * 1e6)
    facts: dict[str, str | int] = {
        "messaging.system": "redis",
        "messaging.message.id": result.id,
        "executor.tenant": result.tenant,
        "executor.attempt": lease.attempt,
    }
    tracer.span("queue", context, read_ns - int(lease.queued_ms * 1e6), read_ns, facts)
    tracer.span("claim", context, read_ns, run_ns, facts)
    tracer.span("run", context, run_ns, ended_ns, {**facts, "executor.outcome": result.outcome.value})
    tracer.span("commit", context, ended_ns, now_ns(), facts)
