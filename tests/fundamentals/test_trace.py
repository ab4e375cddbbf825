"""One trace per evaluation: every phase is a span under one, which is under the caller's."""

from __future__ import annotations

import json
import secrets
from itertools import pairwise
from pathlib import Path
from typing import Any

from cli.embedded import EmbeddedServer
from dispatcher.surroundings import Surroundings
from executor.tracing import now_ns
from tests.support.stack import Stack
from tests.support.wait import wait_until

PHASES = ["submit", "dispatch", "queue", "claim", "run", "commit"]


async def test_the_spans_of_one_evaluation_share_the_callers_trace(server: EmbeddedServer, tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    stack = Stack(server.url, f"t{secrets.token_hex(4)}", EXECUTOR_TRACES=str(path))
    trace_id, span_id = "ab" * 16, "cd" * 8
    try:
        await stack.dispatcher()
        await stack.worker()

        result = await stack.client.run("pass", traceparent=f"00-{trace_id}-{span_id}-01")

        await wait_until(lambda: len(spans_of(path, result.id)) == len(PHASES) + 2, "all spans are written")
    finally:
        await stack.close()
    spans = {span["name"]: span for span in spans_of(path, result.id)}
    send = spans.pop(f"send {stack.cell.keys.requests()}")
    whole = spans.pop("evaluate")
    assert sorted(spans) == sorted(PHASES)
    assert {span["context"]["trace_id"] for span in (send, whole, *spans.values())} == {f"0x{trace_id}"}
    assert send["parent_id"] == f"0x{span_id}"
    assert whole["parent_id"] == send["context"]["span_id"]
    assert {span["parent_id"] for span in spans.values()} == {whole["context"]["span_id"]}
    assert result.traceparent == f"00-{trace_id}-{send['context']['span_id'][2:]}-01"


async def test_a_request_without_context_gets_one(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()

    first, second = await stack.client.run("pass"), await stack.client.run("pass")

    assert first.traceparent.startswith("00-")
    assert first.traceparent != second.traceparent


async def test_an_evaluation_that_woke_its_worker_says_what_its_wait_was_made_of(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    path = tmp_path / "spans.jsonl"
    stack = Stack(server.url, f"t{secrets.token_hex(4)}", EXECUTOR_TRACES=str(path))
    seen: list[tuple[str, int]] = []
    try:
        await stack.dispatcher(surroundings=Surroundings(phases_of=lambda pod: seen if pod == "pod-1" else []))
        woke = await stack.client.submit("pass")
        await wait_until(lambda: stack.has_state(woke.id, "queued"), "it waits")
        now = now_ns()
        seen += [("pod.scale", now), ("pod.create", now + 10**6), ("pod.schedule", now - 10**9)]
        await wait_until(lambda: now_ns() > now + 30 * 10**6, "the kernel's clock of processes has ticked since")
        await stack.worker(EXECUTOR_ID="pod-1")
        await woke.wait(20)
        later = await stack.client.run("pass")
        phases = ["pod.scale", "pod.create", "pod.start", "worker.start"]
        await wait_until(lambda: set(phases) <= names_of(path, woke.id), "the pod's phases are written")
    finally:
        await stack.close()

    spans = {span["name"]: span for span in spans_of(path, woke.id)}
    parts = [spans[name] for name in phases]
    assert {part["parent_id"] for part in parts} == {spans["queue"]["context"]["span_id"]}
    for before, after in pairwise(parts):
        assert before["end_time"] == after["start_time"]
    assert parts[-1]["end_time"] == spans["queue"]["end_time"]
    assert "pod.schedule" not in spans  # it was over before the wait began
    assert not {"pod.start", "worker.start"} & names_of(path, later.id)


async def test_what_ends_without_a_worker_has_a_trace_as_well(server: EmbeddedServer, tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    quick = {"EXECUTOR_TRACES": str(path), "EXECUTOR_LEASE": "0.6", "EXECUTOR_JANITOR_INTERVAL": "0.1"}
    stack = Stack(server.url, f"t{secrets.token_hex(4)}", **quick)
    try:
        await stack.dispatcher()
        rejected = await stack.client.run("pass", timeout=10**9)
        cancelled = await stack.client.submit("pass")
        assert await cancelled.cancel() == ("cancelled", "")
        lost = await stack.client.submit("import time; time.sleep(60)", max_attempts=1)
        worker = await stack.worker()
        await wait_until(lambda: stack.has_state(lost.id, "running"), "it runs")
        worker.kill()
        assert (await lost.wait(20)).outcome == "lost"
        ids = {"rejected": rejected.id, "cancelled": cancelled.id, "lost": lost.id}
        for outcome, name in ids.items():
            await wait_until(lambda name=name: "evaluate" in names_of(path, name), f"{outcome} is written")  # type: ignore[misc]
    finally:
        await stack.close()

    for outcome, name in ids.items():
        (whole,) = [span for span in spans_of(path, name) if span["name"] == "evaluate"]
        assert whole["attributes"]["executor.outcome"] == outcome
        assert (whole["status"]["status_code"] == "ERROR") is (outcome != "cancelled")
        assert whole["start_time"] < whole["end_time"]


async def test_what_is_run_again_is_beneath_its_first_time(server: EmbeddedServer, tmp_path: Path) -> None:
    """With spans and times of its own: the queue begins at the redrive, not at the first submission."""
    path = tmp_path / "spans.jsonl"
    aging = {"EXECUTOR_TRACES": str(path), "EXECUTOR_MAX_AGE": "1", "EXECUTOR_JANITOR_INTERVAL": "0.1"}
    stack = Stack(server.url, f"t{secrets.token_hex(4)}", **aging)
    try:
        await stack.dispatcher()
        first = await stack.add(code="pass")
        await stack.result(first)
        (letter,) = await stack.client.dead_letters()
        await stack.worker()
        again = await stack.client.redrive(letter)
        await wait_until(lambda: {"evaluate", "commit"} <= names_of(path, again), "its spans are written")
        await wait_until(lambda: "evaluate" in names_of(path, first), "the first one's are written")
    finally:
        await stack.close()

    (lost,) = [span for span in spans_of(path, first) if span["name"] == "evaluate"]
    spans = {span["name"]: span for span in spans_of(path, again)}
    assert sorted(spans) == sorted({"evaluate", *PHASES} - {"submit", "dispatch"})
    whole = spans.pop("evaluate")
    assert whole["parent_id"] == lost["context"]["span_id"]
    assert {span["parent_id"] for span in spans.values()} == {whole["context"]["span_id"]}
    assert spans["queue"]["start_time"] == whole["start_time"] > lost["end_time"]


def names_of(path: Path, evaluation_id: str) -> set[str]:
    return {span["name"] for span in spans_of(path, evaluation_id)}


def spans_of(path: Path, evaluation_id: str) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    spans = [json.loads(line) for line in lines if line.endswith("}")]
    return [span for span in spans if span["attributes"]["messaging.message.conversation_id"] == evaluation_id]
