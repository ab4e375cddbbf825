"""Contexts and spans without a program: ids, sampling, and an exporter that nothing waits for."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.errors import Misconfigured
from executor.outcome import Outcome
from executor.result import EvaluationResult
from executor.streams.lane import LaneEntry, Lease
from executor.telemetry import SPANS_DROPPED
from executor.tracing import (
    Tracer,
    evaluation_context,
    is_sampled,
    new_traceparent,
    now_ns,
    outbox,
    span_context,
)
from tests.support.wait import wait_until
from worker.spans import Seen, trace_attempt

CALLER = f"00-{'ab' * 16}-{'cd' * 8}-01"


@pytest.fixture
def silent() -> Iterator[str]:
    """A collector that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def _dropped() -> float:
    return SPANS_DROPPED.values.get((), 0.0)


def _spans(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.1, 120, 280), (1.0, 2000, 2000)])
def test_the_ratio_is_the_part_of_new_contexts_that_is_sampled(ratio: float, least: int, most: int) -> None:
    contexts = [new_traceparent(ratio) for _ in range(2000)]

    assert least <= sum(map(is_sampled, contexts)) <= most


def test_sampling_is_decided_by_the_trace_id() -> None:
    """As TraceIdRatioBased does, so that other programs of the same ratio agree."""
    for context in (new_traceparent(0.3) for _ in range(200)):
        assert is_sampled(context) == (int(context[19:35], 16) < round(0.3 * 2**64))


def test_a_new_context_is_the_evaluations_own() -> None:
    context = new_traceparent()

    assert evaluation_context(context, "default", "x") == context


def test_what_is_run_again_is_in_the_trace_of_the_first_time() -> None:
    context = new_traceparent()

    again = [evaluation_context(context, "default", f"x:again-{number}") for number in (1, 2)]

    assert {one[:36] for one in again} == {context[:36]}
    assert len({context, *again}) == 3


def test_every_program_computes_the_same_ids() -> None:
    whole = evaluation_context(CALLER, "default", "x")

    assert whole == evaluation_context(CALLER, "default", "x")
    assert whole[:36] == CALLER[:36]
    assert len({CALLER, whole, evaluation_context(CALLER, "other", "x"), span_context(whole, "1/run")}) == 4


def test_a_program_with_an_exporter_imports_it_with_its_first_span(silent: str) -> None:
    code = f"""
import sys
from executor.tracing import Tracer, new_traceparent
tracer = Tracer("executor-worker", {silent!r})
tracer.span("run", new_traceparent(0.0), 1, 2)
assert not tracer.wants(new_traceparent(0.0))
print(any(name.startswith("opentelemetry") for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_the_pod_is_named_when_the_instance_is_its_host(tmp_path: Path) -> None:
    for instance in (socket.gethostname(), "worker-1"):
        tracer = Tracer("executor-worker", str(tmp_path / "spans"), instance)
        tracer.span("run", CALLER, 1, 2)
        tracer.close()

    pod, process = (span["resource"]["attributes"] for span in _spans(tmp_path / "spans"))
    assert (pod["service.instance.id"], pod["k8s.pod.name"]) == (socket.gethostname(), socket.gethostname())
    assert (process["service.instance.id"], "k8s.pod.name" in process) == ("worker-1", False)


def test_a_phase_of_another_source_is_a_span_with_its_times(tmp_path: Path) -> None:
    tracer = Tracer("executor-dispatcher", str(tmp_path / "spans"))
    created = tracer.span("pod.create", CALLER, 1_000_000_000, 3_000_000_000, {"k8s.pod.name": "p"})
    tracer.span("pod.start", created, 2_000_000_000, 3_000_000_000, error="ErrImagePull")
    tracer.close()

    first, second = _spans(tmp_path / "spans")
    assert (first["start_time"], first["end_time"]) == ("1970-01-01T00:00:01.000000Z", "1970-01-01T00:00:03.000000Z")
    assert first["parent_id"] == f"0x{'cd' * 8}"
    assert second["parent_id"] == first["context"]["span_id"]
    assert second["status"] == {"status_code": "ERROR", "description": "ErrImagePull"}


def test_an_attempt_whose_commit_was_refused_is_below_what_the_next_one_records_for_it(tmp_path: Path) -> None:
    tracer = Tracer("executor-worker", str(tmp_path / "spans"))
    entry = LaneEntry("1700000000000-0", "x", "default", CALLER)
    result = EvaluationResult(id="x", outcome=Outcome.SUCCEEDED)
    for attempt in (1, 2):
        lease = Lease(entry, attempt, attempt, 5.0, b"")
        committed = attempt == 2
        seen = Seen(0, now_ns(), now_ns(), now_ns())
        trace_attempt(tracer, "warm.python", lease, None, result, seen, committed=committed)
    tracer.close()

    spans = _spans(tmp_path / "spans")
    ids = [span["context"]["span_id"] for span in spans]
    missing = next(span["context"]["span_id"] for span in spans if span["name"] == "attempt")
    stale = [span["name"] for span in spans if span["parent_id"] == missing]
    assert len(set(ids)) == len(ids)
    assert stale == ["claim", "run", "commit"]
    assert [span["name"] for span in spans].count("evaluate") == 1


def test_what_is_not_a_file_nor_a_collector_is_refused(tmp_path: Path) -> None:
    for bad in ("grpc://host:4317", str(tmp_path / "no" / "folder")):
        with pytest.raises(Misconfigured, match=r"^EXECUTOR_TRACES: "):
            Tracer("x", bad)


def test_a_full_queue_drops_and_counts(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "QUEUE", 10)
    tracer, before = Tracer("x", silent), _dropped()

    start = time.monotonic()
    for _ in range(2000):
        tracer.span("run", CALLER, 1, 2)

    assert time.monotonic() - start < 1
    assert _dropped() - before >= 2000 - 10 - outbox.BATCH
    tracer.close()


def test_closing_does_not_wait_for_a_collector_that_is_silent(silent: str) -> None:
    tracer, before = Tracer("x", silent), _dropped()
    for _ in range(outbox.BATCH + 5):
        tracer.span("run", CALLER, 1, 2)

    start = time.monotonic()
    tracer.close()

    assert time.monotonic() - start < outbox.FLUSH + 1
    assert _dropped() - before >= 5


async def test_spans_that_no_collector_takes_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    tracer, before = Tracer("x", f"http://127.0.0.1:{port}"), _dropped()

    tracer.span("run", CALLER, 1, 2)
    tracer.close()

    await wait_until(lambda: _dropped() - before >= 1, "the span is counted")
