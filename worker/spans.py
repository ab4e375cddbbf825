"""The spans of one attempt, made once it is committed and from the times it was seen to pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from executor.keys import AGAIN_PATTERN, WORKERS
from executor.outcome import Outcome
from executor.result import EvaluationResult
from executor.streams.lane import Lease
from executor.streams.starts import WorkerStart
from executor.tracing import Tracer, Value, entry_ns, evaluation_context, messaging, now_ns, span_context

_WELL: Final = (Outcome.SUCCEEDED, Outcome.CANCELLED)
_LEFT_NOTHING: Final = "left no result"
_WORTH_A_SPAN_NS: Final = 1_000_000


class Seen(NamedTuple):
    """Moments of an attempt, ns on this worker's wall clock."""

    began_ns: int
    """When the worker's process began; 0 once an attempt that was seen has told of it."""
    read_ns: int
    """When the entry was read."""
    claimed_ns: int
    """When it was this worker's to run."""
    ended_ns: int
    """When the process tree had ended."""


def trace_attempt(
    tracer: Tracer,
    lane: str,
    lease: Lease,
    times: Sequence[int] | None,
    result: EvaluationResult,
    seen: Seen,
    *,
    committed: bool,
) -> WorkerStart | None:
    """Record the attempt's phases, and the whole evaluation if this attempt gave it its result.

    Args:
        tracer: records.
        lane: name of the lane.
        lease: of the attempt.
        times: when the request entered ingress and when the dispatcher let it go, ns; None when it did not say.
        result: of the attempt.
        seen: what this worker saw of it.
        committed: whether the result was taken; otherwise the lease had passed on, and the attempt that has the
            result records what came before it.

    Returns:
        The start of this worker if the evaluation was waiting before it.
    """
    done_ns, number = now_ns(), lease.attempt
    read_ns, ended_ns = seen.read_ns, seen.ended_ns
    run_ns = max(seen.claimed_ns, ended_ns - int(result.duration_ms * 1e6))
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

    link, start = "", None
    if committed:
        times = None if AGAIN_PATTERN.fullmatch(result.id) else times  # of the first time, when it is run again
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
        if queued_ns < seen.began_ns < read_ns:
            tracer.span("worker.start", own("queue"), seen.began_ns, read_ns, about())
            start = WorkerStart(
                result.worker, lane, result.tenant, result.id, number, own("queue"), queued_ns, seen.began_ns
            )
    prepared_ns = seen.claimed_ns if run_ns - seen.claimed_ns > _WORTH_A_SPAN_NS else run_ns
    facts = about("receive", "claim")
    tracer.span("claim", parent, read_ns, prepared_ns, facts, context=own("claim"), kind="consumer")
    if prepared_ns < run_ns:
        tracer.span("sandbox.start", parent, prepared_ns, run_ns, about(), context=own("sandbox.start"))
    facts = about("process", "run") | outcome
    tracer.span("run", parent, run_ns, ended_ns, facts, context=own("run"), kind="consumer", error=error, link=link)
    facts = about("settle", "commit")
    tracer.span("commit", parent, ended_ns, done_ns, facts, context=own("commit"), kind="client")
    return start
