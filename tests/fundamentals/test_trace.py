"""One trace per evaluation: every phase is a span under one, which is under the caller's."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from cli.embedded import EmbeddedServer
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


def spans_of(path: Path, evaluation_id: str) -> list[dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    spans = [json.loads(line) for line in lines if line.endswith("}")]
    return [span for span in spans if span["attributes"]["messaging.message.conversation_id"] == evaluation_id]
