"""The spans of one attempt, made once it is committed and from the times it was seen to pass."""

from __future__ import annotations

from collections.abc import Sequence

from executor.keys import WORKERS
from executor.outcome import Outcome
from executor.result import EvaluationResult
from executor.streams.lane import Lease
from executor.tracing import Tracer, Value, entry_ns, evaluation_context, messaging, now_ns, span_context

_WELL = (Outcome.SUCCEEDED, Outcome.CANCELLED)


def trace_attempt(
    tracer: Tracer,
    lane: str,
    lease: Lease,
    passed: Sequence[int] | None,
    result: EvaluationResult,
    read_ns: int,
    ended_ns: int,
    *,
    committed: bool,
) -> None:
    """Record the attempt's phases, and the whole evaluation if this attempt gave it its result.

    Args:
        tracer: records.
        lane: name of the lane.
        lease: of the attempt.
        passed: when the request entered ingress and when the dispatcher let it go, ns; None when it did not say.
        result: of the attempt.
        read_ns: when the entry was read.
        ended_ns: when the process tree had ended.
        committed: whether the result was taken; otherwise the lease had passed on and another attempt will have it.
    """
    done_ns, number = now_ns(), lease.attempt
    run_ns = max(read_ns, ended_ns - int(result.duration_ms * 1e6))
    whole = evaluation_context(lease.entry.traceparent, result.tenant, result.id)
    facts: dict[str, Value] = {"executor.lane": lane, "executor.attempt": number, "executor.worker": result.worker}
    outcome = {"executor.outcome": result.outcome.value}
    error = "" if result.outcome in _WELL else result.outcome.value

    def about(operation: str, name: str) -> dict[str, Value]:
        entry, group = lease.entry, WORKERS if operation else ""
        return messaging(operation, name, lane, entry.entry_id, result.tenant, result.id, group) | facts

    parent = whole
    if not committed:
        parent = span_context(whole, f"{number}/attempt")
        facts["executor.stale"] = True

    def phase(name: str, start_ns: int, end_ns: int) -> tuple[str, str, int, int]:
        return name, parent, start_ns, end_ns

    def key(name: str) -> str:
        return span_context(parent, f"{number}/{name}")

    link = ""
    if committed:
        submitted_ns, admitted_ns = passed or [read_ns - int(lease.queued_ms * 1e6)] * 2
        queued_ns = admitted_ns = min(admitted_ns, read_ns)
        if number > 1:
            queued_ns = min(max(admitted_ns, entry_ns(lease.entry.entry_id)), read_ns)
            link = span_context(whole, f"{number - 1}/attempt")
            before = about("", "") | {"executor.attempt": number - 1, "executor.worker": ""}
            tracer.span("attempt", whole, admitted_ns, queued_ns, before, context=link, error="it left no result")
        tracer.span(*phase("queue", queued_ns, read_ns), about("", ""), context=key("queue"))
        tracer.span(
            "evaluate",
            lease.entry.traceparent,
            min(submitted_ns, admitted_ns),
            done_ns,
            about("process", "evaluate") | outcome,
            context=whole,
            kind="consumer",
            error=error,
        )
    tracer.span(*phase("claim", read_ns, run_ns), about("receive", "claim"), context=key("claim"), kind="consumer")
    tracer.span(
        *phase("run", run_ns, ended_ns),
        about("process", "run") | outcome,
        context=key("run"),
        kind="consumer",
        error=error,
        link=link,
    )
    tracer.span(*phase("commit", ended_ns, done_ns), about("settle", "commit"), context=key("commit"), kind="client")
