"""What a collector receives of an evaluation: one tree without gaps, by OpenTelemetry's names."""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from cli.embedded import EmbeddedServer
from executor.tracing import evaluation_context, new_traceparent, span_context
from tests.support.stack import Stack
from tests.support.wait import wait_until

PHASES = ["submit", "dispatch", "queue", "claim", "run", "commit"]


class Collector:
    """An OTLP/HTTP receiver that keeps what it is sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, Any], Span]] = []
        self.paths: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def take(self, path: str, request: ExportTraceServiceRequest) -> None:
        self.paths.add(path)
        for resource in request.resource_spans:
            facts = plain(resource.resource.attributes)
            self.spans += [(facts, span) for scope in resource.scope_spans for span in scope.spans]

    def of(self, evaluation_id: str) -> dict[str, Span]:
        """Spans of an evaluation by name."""
        found = [span for _, span in self.spans]
        mine = [span for span in found if plain(span.attributes)["messaging.message.conversation_id"] == evaluation_id]
        assert len({span.span_id for span in mine}) == len(mine)
        return {span.name: span for span in mine}

    async def whole(self, evaluation_id: str) -> dict[str, Span]:
        """The same, once all of it has come."""
        names = {"evaluate", *PHASES}
        await wait_until(lambda: names <= set(self.of(evaluation_id)), f"all spans of {evaluation_id}")
        return self.of(evaluation_id)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


@pytest.fixture
async def traced(server: EmbeddedServer, collector: Collector) -> AsyncIterator[Stack]:
    running = Stack(server.url, f"t{secrets.token_hex(4)}", EXECUTOR_TRACES=collector.url, EXECUTOR_LEASE="1")
    yield running
    await running.close()


def plain(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


def hex_of(context: str) -> tuple[str, str]:
    return context[3:35], context[36:52]


def assert_contiguous(spans: dict[str, Span], phases: list[str]) -> None:
    """Each phase begins where the one before it ended, and all of them are the evaluation."""
    parts = [spans[name] for name in phases]
    whole = spans["evaluate"]
    assert [part.start_time_unix_nano for part in parts[1:]] == [part.end_time_unix_nano for part in parts[:-1]]
    assert all(part.end_time_unix_nano >= part.start_time_unix_nano for part in parts)
    assert parts[0].start_time_unix_nano == whole.start_time_unix_nano
    assert parts[-1].end_time_unix_nano == whole.end_time_unix_nano


async def test_an_evaluation_is_one_tree_without_gaps(traced: Stack, collector: Collector) -> None:
    await traced.dispatcher()
    await traced.worker()

    result = await traced.client.run("pass")

    spans = await collector.whole(result.id)
    await traced.client.close()
    await wait_until(lambda: len(collector.of(result.id)) == 8, "the client's span came too")
    send = collector.of(result.id)[f"send {traced.cell.keys.requests()}"]
    assert collector.paths == {"/v1/traces"}
    assert {span.trace_id.hex() for span in spans.values()} == {result.traceparent[3:35]}
    assert (send.parent_span_id, send.span_id.hex()) == (b"", result.traceparent[36:52])
    assert spans["evaluate"].parent_span_id == send.span_id
    assert {spans[name].parent_span_id for name in PHASES} == {spans["evaluate"].span_id}
    assert_contiguous(spans, PHASES)
    assert send.start_time_unix_nano <= spans["dispatch"].start_time_unix_nano


async def test_spans_say_what_they_are_by_the_messaging_conventions(traced: Stack, collector: Collector) -> None:
    await traced.dispatcher()
    await traced.worker()

    result = await traced.client.run("1 / 0")

    spans = await collector.whole(result.id)
    ingress = traced.cell.keys.requests()
    dispatch, claim, run = (plain(spans[name].attributes) for name in ("dispatch", "claim", "run"))
    commit, whole = (plain(spans[name].attributes) for name in ("commit", "evaluate"))
    assert dispatch["messaging.system"] == "redis"
    assert dispatch["messaging.destination.name"] == ingress
    assert dispatch["messaging.consumer.group.name"] == "dispatchers"
    assert dispatch["messaging.operation.type"] == "process"
    assert (claim["messaging.destination.name"], claim["messaging.operation.type"]) == ("warm.python", "receive")
    assert (claim["messaging.consumer.group.name"], commit["messaging.operation.type"]) == ("workers", "settle")
    assert claim["messaging.message.id"] == run["messaging.message.id"] != ""
    assert (run["executor.lane"], run["executor.worker"]) == ("warm.python", "worker-0")
    assert (run["executor.attempt"], run["executor.tenant"]) == (1, "default")
    assert run["executor.outcome"] == whole["executor.outcome"] == "failed"
    assert spans["run"].status.code == spans["evaluate"].status.code == 2
    assert spans["run"].status.message == "failed"
    assert spans["run"].kind == Span.SPAN_KIND_CONSUMER
    services = {span.name: facts["service.name"] for facts, span in collector.spans}
    assert services["submit"] == services["dispatch"] == "executor-dispatcher"
    assert services["run"] == services["evaluate"] == "executor-worker"


async def test_a_second_attempt_links_to_the_first(traced: Stack, collector: Collector) -> None:
    await traced.dispatcher()
    first = await traced.worker()
    handle = await traced.client.submit("import time; time.sleep(0.5)")
    await wait_until(lambda: _running(traced, handle.id), "it runs")

    first.send_signal(signal.SIGKILL)
    await traced.worker()
    result = await handle.wait(40)

    spans = await collector.whole(handle.id)
    whole = evaluation_context(result.traceparent, "default", handle.id)
    (link,) = spans["run"].links
    assert (result.outcome, result.attempt) == ("succeeded", 2)
    assert plain(spans["run"].attributes)["executor.attempt"] == 2
    assert link.span_id == spans["attempt"].span_id
    assert (link.trace_id.hex(), link.span_id.hex()) == hex_of(span_context(whole, "1/attempt"))
    assert spans["attempt"].status.code == 2
    assert plain(spans["attempt"].attributes)["executor.attempt"] == 1
    assert_contiguous(spans, ["submit", "dispatch", "attempt", "queue", "claim", "run", "commit"])


async def _running(stack: Stack, evaluation_id: str) -> bool:
    return (await stack.client.state(evaluation_id)).get("state") == "running"


async def test_a_callers_choice_is_kept_and_others_are_sampled(server: EmbeddedServer, collector: Collector) -> None:
    prefix = f"t{secrets.token_hex(4)}"
    stack = Stack(server.url, prefix, EXECUTOR_TRACES=collector.url, EXECUTOR_TRACES_SAMPLE="0")
    try:
        await stack.dispatcher()
        await stack.worker()
        caller = f"00-{'ab' * 16}-{'cd' * 8}"
        await stack.result(await stack.add(code="pass"))
        mine = await stack.client.run("pass")
        refused = await stack.client.run("pass", traceparent=f"{caller}-00")
        await stack.add(code="pass", id="asked", traceparent=f"{caller}-01")
        asked = await stack.result("asked")
        spans = await collector.whole("asked")
    finally:
        await stack.close()

    assert (mine.traceparent[-2:], refused.traceparent) == ("00", f"{caller}-00")
    assert asked["traceparent"] == f"{caller}-01"
    assert {plain(span.attributes)["messaging.message.conversation_id"] for _, span in collector.spans} == {"asked"}
    assert spans["evaluate"].parent_span_id.hex() == "cd" * 8


async def test_a_context_of_the_dispatchers_makes_the_evaluation_the_root(traced: Stack, collector: Collector) -> None:
    await traced.dispatcher()
    await traced.worker()

    entry_id = await traced.add(code="pass")

    spans = await collector.whole(entry_id)
    assert spans["evaluate"].parent_span_id == b""
    assert (await traced.result(entry_id))["traceparent"][36:52] == spans["evaluate"].span_id.hex()


async def test_two_evaluations_under_one_span_are_two_trees(traced: Stack, collector: Collector) -> None:
    await traced.dispatcher()
    await traced.worker()
    context = new_traceparent()

    results = [await traced.client.run("pass", traceparent=context) for _ in range(2)]

    first, second = [await collector.whole(result.id) for result in results]
    assert {span.span_id for span in first.values()} & {span.span_id for span in second.values()} == set()
    assert first["evaluate"].trace_id == second["evaluate"].trace_id


async def test_a_collector_that_is_away_costs_no_evaluation(server: EmbeddedServer, collector: Collector) -> None:
    stack = Stack(server.url, f"t{secrets.token_hex(4)}", EXECUTOR_TRACES=collector.url)
    try:
        await stack.dispatcher()
        worker = await stack.worker()
        collector.server.server_close()
        collector.server.shutdown()

        handles = await stack.client.submit_many([{"code": "print(1)"}] * 100)
        results = [await handle.wait(30) for handle in handles]
        worker.send_signal(signal.SIGTERM)
        await wait_until(lambda: worker.poll() is not None, "the worker ends", 8)
    finally:
        await stack.close()

    assert {result.outcome for result in results} == {"succeeded"}
    assert worker.returncode == 0


async def test_a_worker_of_one_evaluation_sends_its_spans_before_it_ends(traced: Stack, collector: Collector) -> None:
    await traced.dispatcher()
    evaluation_id = await traced.add(code="pass")

    worker = await traced.worker(wait=False, MODE="one-shot", EXECUTOR_LANE="warm.python")
    await wait_until(lambda: worker.poll() is not None, "it has ended")

    assert {"evaluate", "run", "commit"} <= set(collector.of(evaluation_id))
