"""The spans of one attempt, made once it is committed and from the times it was seen to pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from executor.keys import WORKERS
from executor.outcome import Outcome
from executor.result import EvaluationResult
from executor.streams.lane import Lease
from executor.tracing import Tracer, Value, entry_ns, evaluation_context, messaging, now_ns, span_context

_WELL: Final = (Outcome.SUCCEEDED, Outcome.CANCELLED)
_LEFT_NOTHING: Final = "left no result"


def trace_attempt(
    tracer: Tracer,
    lane: str,
    lease: Lease,
    times: Sequence[int] | None,
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
        times: when the request entered ingress and when the dispatcher let it go, ns; None when it did not say.
        result: of the attempt.
        read_ns: when the entry was read.
        ended_ns: when the process tree had ended.
        committed: whether the result was taken; otherwise the lease had passed on, and the attempt that has the
            result records what came before it.
    """
    done_ns, number = now_ns(), lease.attempt
    run_ns = max(read_ns, ended_ns - int(result.duration_ms * 1e6))
    whole = evaluation_context(lease.entry.traceparent, result.tenant, result.id)
    parent = whole if committed else span_context(whole, f"{number}/attempt")
    outcome: dict[str, Value] = {"executor.outcome": result.outcome.value}
    error = "" if result.outcome in _WELL else result.outcome.value

    def about(operation: str = "", name: str = "") -> dict[str, Value]:
        group = WORKERS if operation else ""
        facts = messaging(operation, name, lane, lease.entry.entry_id, result.tenant, result.id, group)
        facts |= {"executor.lane": lane, "executor.attempt": number, "executor.worker": result.worker}
        return facts if committed else facts | {"executor.stale": True}

    def own(name: str) -> str:
        return span_context(parent, f"{number}/{name}")

    link = ""
    if committed:
        submitted_ns, admitted_ns = times or [read_ns - int(lease.queued_ms * 1e6)] * 2
        queued_ns = admitted_ns = min(admitted_ns, read_ns)
        if number > 1:
            queued_ns = min(max(admitted_ns, entry_ns(lease.entry.entry_id)), read_ns)
            link = span_context(whole, f"{number - 1}/attempt")
            facts = about() | {"executor.attempt": number - 1}
            del facts["executor.worker"]
            tracer.span("attempt", whole, admitted_ns, queued_ns, facts, context=link, error=_LEFT_NOTHING)
        facts = about("process", "evaluate") | outcome
        first_ns, caller = min(submitted_ns, admitted_ns), lease.entry.traceparent
        tracer.span("evaluate", caller, first_ns, done_ns, facts, context=whole, kind="consumer", error=error)
        tracer.span("queue", parent, queued_ns, read_ns, about(), context=own("queue"))
    facts = about("receive", "claim")
    tracer.span("claim", parent, read_ns, run_ns, facts, context=own("claim"), kind="consumer")
    facts = about("process", "run") | outcome
    tracer.span("run", parent, run_ns, ended_ns, facts, context=own("run"), kind="consumer", error=error, link=link)
    facts = about("settle", "commit")
    tracer.span("commit", parent, ended_ns, done_ns, facts, context=own("commit"), kind="client")
