"""`executor trace`: a timeline from a file or a real Jaeger, and what is said when there is none."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli import exits
from cli.embedded import EmbeddedServer
from cli.trace import Row, as_document, belonging, gaps
from tests.support.command import execute
from tests.support.stack import Stack
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(90)

JAEGER = Path(__file__).parents[2] / ".cluster" / "bin" / "all-in-one"
PHASES = {"evaluate", "submit", "dispatch", "queue", "claim", "run", "commit"}
LISTENERS = ("admin.http", "collector.http-server", "collector.grpc-server", "collector.otlp.grpc", "query.grpc-server")
"""What it listens on besides; each gets a port that nobody uses."""


@dataclass(frozen=True, slots=True)
class Jaeger:
    otlp: str
    query: str


@pytest.fixture(scope="module")
def jaeger() -> Iterator[Jaeger]:
    """The real thing, in memory, on ports of its own."""
    if not JAEGER.exists():
        pytest.skip("there is no .cluster/bin/all-in-one; e2e/cluster/build makes it")
    otlp, query, *others = _free_ports(2 + len(LISTENERS))
    flags = [f"--{name}.host-port=127.0.0.1:{port}" for name, port in zip(LISTENERS, others, strict=True)]
    flags += [f"--collector.otlp.http.host-port=127.0.0.1:{otlp}", f"--query.http-server.host-port=127.0.0.1:{query}"]
    process = subprocess.Popen([JAEGER, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield Jaeger(f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{query}")
    process.terminate()
    process.wait()


@pytest.fixture
async def traced(server: EmbeddedServer, jaeger: Jaeger) -> AsyncIterator[Stack]:
    prefix = f"t{secrets.token_hex(4)}"
    running = Stack(server.url, prefix, EXECUTOR_TRACES=jaeger.otlp, EXECUTOR_JAEGER=jaeger.query)
    await wait_until(lambda: _answers(f"{jaeger.query}/api/services"), "Jaeger answers")
    yield running
    await running.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _row(name: str, start: int, end: int, span_id: str = "", parent: str = "", **attributes: Any) -> Row:
    return Row(name, "executor-worker", span_id or name, parent, start, end, attributes, "")


async def test_jaeger_has_the_whole_evaluation(traced: Stack) -> None:
    await traced.dispatcher()
    await traced.worker()
    done = await execute(traced.environ, "submit", "-c", "print(1)", "--id", "seen", "--json")

    shown = await execute(traced.environ, "trace", "seen", "--json")
    printed = await execute({**traced.environ, "COLUMNS": "120"}, "trace", "seen")

    spans = {span["phase"]: span for span in shown.json["spans"]}
    assert (done.code, shown.code, printed.code) == (exits.OK, exits.OK, exits.OK), shown
    assert spans.keys() == PHASES | {f"send {traced.cell.keys.requests()}"}
    assert shown.json["unexplained_percent"] < 5
    assert spans["evaluate"]["parent_id"] == spans[f"send {traced.cell.keys.requests()}"]["span_id"]
    assert {spans[name]["parent_id"] for name in PHASES - {"evaluate"}} == {spans["evaluate"]["span_id"]}
    assert spans["dispatch"]["service"] == "executor-dispatcher"
    assert "commit" in printed.stdout
    assert "█" in printed.stdout


async def test_a_trace_that_jaeger_does_not_have_is_said_so(traced: Stack) -> None:
    quiet = {**traced.environ, "EXECUTOR_TRACES": "none"}
    await traced.dispatcher()
    context = f"00-{secrets.token_hex(16)}-{'cd' * 8}-01"
    await execute(quiet, "submit", "-c", "pass", "--id", "queued", "--no-wait")
    await traced.add(code="pass", id="refused", traceparent=f"{context[:-2]}00")
    await wait_until(lambda: _known(traced, "refused"), "it is admitted")

    unsampled = await execute(quiet, "trace", "refused")
    missing = await execute(quiet, "trace", "unknown")

    assert (unsampled.code, missing.code) == (exits.NOT_AS_HOPED, exits.UNKNOWN_ID)
    assert "was not sampled; EXECUTOR_TRACES_SAMPLE" in unsampled.stderr
    assert "no evaluation unknown is known" in missing.stderr


async def _known(stack: Stack, evaluation_id: str) -> bool:
    return bool(await stack.client.state(evaluation_id))


async def test_no_jaeger_is_exit_3_and_says_what_to_set(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()
    result = await stack.client.run("pass")
    (port,) = _free_ports(1)

    away = await execute({**stack.environ, "EXECUTOR_JAEGER": f"http://127.0.0.1:{port}"}, "trace", result.id)
    wrong = await execute({**stack.environ, "EXECUTOR_JAEGER": "localhost:16686"}, "trace", result.id)

    assert (away.code, wrong.code) == (exits.SERVER_AWAY, exits.USAGE)
    assert "set EXECUTOR_JAEGER to its query address, or give --file" in away.stderr
    assert away.stderr.count("\n") == wrong.stderr.count("\n") == 1


async def test_a_file_of_spans_needs_no_jaeger_and_no_server(server: EmbeddedServer, tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    traced = Stack(server.url, f"t{secrets.token_hex(4)}", EXECUTOR_TRACES=str(path))
    try:
        await traced.dispatcher()
        await traced.worker()
        result = await traced.client.run("1 / 0")
    finally:
        await traced.close()
    environ = {"PATH": traced.environ["PATH"], "COLUMNS": "120", "REDIS_URL": f"unix://{tmp_path}/none"}

    shown = await execute(environ, "trace", result.id, "--file", str(path), "--json")
    printed = await execute(environ, "trace", result.id, "--file", str(path))
    unknown = await execute(environ, "trace", "unknown", "--file", str(path))
    absent = await execute(environ, "trace", result.id, "--file", str(tmp_path / "absent"))

    assert {span["phase"] for span in shown.json["spans"]} >= PHASES
    assert shown.json["unexplained_percent"] < 5
    assert "run (failed)" in printed.stdout
    assert (unknown.code, absent.code) == (exits.UNKNOWN_ID, exits.USAGE)
    assert "no span of evaluation unknown" in unknown.stderr


async def test_a_file_that_holds_something_else_is_refused(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(f"{json.dumps({'id': 1})}\n[]\n")

    done = await execute(stack.environ, "trace", "x", "--file", str(path))

    assert done.code == exits.USAGE
    assert "line 1: not a span" in done.stderr


def test_a_gap_is_what_no_phase_covers() -> None:
    rows = [_row("evaluate", 0, 1000), _row("submit", 0, 100), _row("run", 300, 900), _row("pod.start", 50, 200)]
    rows.sort(key=lambda row: row.start_us)

    document = as_document("x", rows)

    assert [(gap.start_us, gap.end_us) for gap in gaps(rows)] == [(200, 300), (900, 1000)]
    assert document["unexplained_percent"] == 20
    assert document["gaps"][0] == {"start_ms": 0.2, "duration_ms": 0.1, "percent": 10.0}


def test_other_evaluations_of_the_trace_are_left_out() -> None:
    def own(evaluation_id: str) -> dict[str, Any]:
        return {"messaging.message.conversation_id": evaluation_id, "executor.tenant": "default"}

    rows = [
        _row("caller", 0, 9),
        _row("evaluate", 0, 9, "a", "caller", **own("x")),
        _row("evaluate", 0, 9, "b", "caller", **own("y")),
        _row("pod.create", 0, 9, "c", "a"),
        _row("pod.start", 0, 9, "d", "c"),
        _row("pod.create", 0, 9, "e", "b"),
    ]

    assert [row.span_id for row in belonging(rows, "default", "x")] == ["a", "c", "d"]
