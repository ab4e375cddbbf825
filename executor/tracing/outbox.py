"""Finished spans on their way out: a bounded queue, and the one thread that imports the SDK and exports.

The SDK's BatchSpanProcessor has neither a bound on its flush nor a count of what it drops, and it would have to be
imported where spans are made; so its queue and thread are here, and the SDK's exporters do the rest.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from executor.errors import Misconfigured
from executor.telemetry import SPANS_DROPPED

log = logging.getLogger("tracing")

Value = str | int | float | bool
Kind = Literal["internal", "producer", "consumer", "client"]

QUEUE: Final = 8192
"""Spans kept while the collector does not take them."""
BATCH: Final = 512
INTERVAL: Final = 0.5
"""Seconds between two exports while spans come slowly."""
SLICE: Final = 8
YIELD: Final = 0.0002
"""So many spans are built before the interpreter is left to the program for so many seconds."""
_EXPORT_TIMEOUT: Final = 5.0
FLUSH: Final = _EXPORT_TIMEOUT
"""Seconds that `close` waits: not shorter than one export, or what would have been taken is dropped."""


class Span(NamedTuple):
    """What a program knows of one span; contexts are traceparents."""

    name: str
    context: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    kind: Kind
    error: str
    link: str


class Sink(NamedTuple):
    """An exporter, once it is imported."""

    export: Callable[[Sequence[Span]], bool]
    close: Callable[[], None]


class Outbox:
    """Takes spans from any thread and never blocks, nor fails, the one that puts them."""

    def __init__(self, open_sink: Callable[[], Sink]) -> None:
        self._open_sink = open_sink
        self._spans: deque[Span] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._sink: Sink | None = None
        self._closing = False
        self._away = False

    def put(self, span: Span) -> None:
        """Queue a span; it is dropped and counted when the queue is full or closed."""
        if self._closing or len(self._spans) >= QUEUE:
            SPANS_DROPPED.add()
            return
        self._spans.append(span)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="spans", daemon=True)
            self._thread.start()
        elif len(self._spans) == BATCH:
            self._wake.set()

    def close(self) -> None:
        """Export what is queued, for `FLUSH` seconds at most; what is left is dropped and counted."""
        self._closing = True
        self._wake.set()
        if self._thread is None:
            return
        self._thread.join(FLUSH)
        if self._thread.is_alive():
            SPANS_DROPPED.add(len(self._spans))
            self._spans.clear()
            if self._sink is not None:
                self._sink.close()

    def _work(self) -> None:
        try:
            sink = self._sink = self._open_sink()
        except Exception:
            log.exception("spans cannot be exported")
            self._closing = True
            self._drop(len(self._spans))
            self._spans.clear()
            return
        while True:
            closing = self._closing
            while self._spans:
                self._export(sink)
            if closing:
                sink.close()
                return
            self._wake.wait(INTERVAL)
            self._wake.clear()

    def _export(self, sink: Sink) -> None:
        batch = [self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))]
        try:
            taken = sink.export(batch)
        except Exception as error:
            log.debug("the exporter failed", extra={"error": repr(error)})
            taken = False
        if not taken:
            self._drop(len(batch))
        elif self._away:
            log.info("spans are taken again")
        if not taken and not self._away:
            log.warning("spans are not taken and dropped; is EXECUTOR_TRACES right and the collector up?")
        self._away = not taken

    def _drop(self, count: int) -> None:
        SPANS_DROPPED.add(count)


def sink_for(program: str, instance: str, exporter: str) -> Callable[[], Sink]:
    """How to open an exporter: an OTLP collector for an http address, a file for anything else.

    Raises:
        Misconfigured: the file cannot be written, or it is an address of another kind.
    """
    if exporter.startswith(("http://", "https://")):
        return lambda: _otlp_sink(_Builder(program, instance), exporter)
    if "://" in exporter:
        raise Misconfigured(f"EXECUTOR_TRACES: {exporter!r} is neither none, a file nor http(s)://host:4318")
    try:
        Path(exporter).open("ab").close()
    except OSError as error:
        raise Misconfigured(f"EXECUTOR_TRACES: {exporter}: {error.strerror}") from error
    return lambda: _file_sink(_Builder(program, instance), Path(exporter))


def _otlp_sink(builder: _Builder, url: str) -> Sink:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415

    logging.getLogger(OTLPSpanExporter.__module__).setLevel(logging.CRITICAL)  # an outage is one line, ours
    path = "" if url.endswith("/v1/traces") else "/v1/traces"
    exporter = OTLPSpanExporter(endpoint=url.rstrip("/") + path, timeout=_EXPORT_TIMEOUT)

    def export(spans: Sequence[Span]) -> bool:
        return exporter.export(builder.built(spans)) is SpanExportResult.SUCCESS

    return Sink(export, exporter.shutdown)


def _file_sink(builder: _Builder, path: Path) -> Sink:
    out = path.open("ab", buffering=0)

    def export(spans: Sequence[Span]) -> bool:
        lines = [span.to_json(indent=None) + "\n" for span in builder.built(spans)]
        out.write("".join(lines).encode())  # one write: other programs append to the same file
        return True

    return Sink(export, out.close)


class _Builder:
    """Makes the SDK's spans of ours."""

    def __init__(self, program: str, instance: str) -> None:
        import socket  # noqa: PLC0415
        import uuid  # noqa: PLC0415

        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415
        from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags  # noqa: PLC0415
        from opentelemetry.trace.status import Status, StatusCode  # noqa: PLC0415

        facts = {"service.name": program, "service.instance.id": instance or str(uuid.uuid4())}
        if instance == socket.gethostname():  # a pod's host name is its name
            facts["k8s.pod.name"] = instance
        self._resource = Resource.create(facts)
        self._scope = InstrumentationScope("executor")
        self._kinds = {name: getattr(SpanKind, name.upper()) for name in ("internal", "producer", "consumer", "client")}
        self._flags = TraceFlags(TraceFlags.SAMPLED)
        # The SDK's constructors are not annotated.
        self._span: Callable[..., Any] = ReadableSpan
        self._context: Callable[..., Any] = SpanContext
        self._link: Callable[..., Any] = Link
        self._status: Callable[[str], Any] = lambda error: Status(StatusCode.ERROR, error) if error else Status()

    def built(self, spans: Sequence[Span]) -> list[Any]:
        found = []
        for number, span in enumerate(spans):
            if number % SLICE == SLICE - 1:
                time.sleep(YIELD)  # this thread shares the interpreter with the event loop, which goes first
            found.append(self._build(span))
        return found

    def _build(self, span: Span) -> Any:
        return self._span(
            span.name,
            self._parsed(span.context, remote=False),
            parent=None if span.parent == span.context else self._parsed(span.parent, remote=True),
            resource=self._resource,
            attributes=span.attributes,
            links=(self._link(self._parsed(span.link, remote=True)),) if span.link else (),
            kind=self._kinds[span.kind],
            status=self._status(span.error),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )

    def _parsed(self, traceparent: str, *, remote: bool) -> Any:
        return self._context(int(traceparent[3:35], 16), int(traceparent[36:52], 16), remote, self._flags)
