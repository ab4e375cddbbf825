"""Trace context in every message, and the spans of one evaluation.

The context travels as a W3C traceparent (https://www.w3.org/TR/trace-context/). Spans are made with explicit
start and end times, because most of an evaluation's phases begin in one process and end in another. Without an
exporter nothing is recorded and the OpenTelemetry SDK is not imported; the context still travels.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from executor.errors import Misconfigured

Value = str | int | float | bool


def new_traceparent() -> str:
    """A context for a caller that sent none."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def now_ns() -> int:
    """Wall clock for span times, ns since the epoch; never used for decisions."""
    return time.time_ns()


class Tracer:
    """Records spans of one program.

    Attributes:
        enabled: whether anything is recorded; hot paths ask first.
    """

    def __init__(self, program: str, exporter: str = "none") -> None:
        """Make a tracer.

        Args:
            program: `service.name` of the spans.
            exporter: `none`, or a file that gets one JSON object per line and span.
        """
        self.enabled = exporter not in ("", "none")
        self._provider: Any = None
        self._file: TextIO | None = None
        if self.enabled:
            try:
                self._file = Path(exporter).open("a", buffering=1)  # noqa: SIM115 closed with the tracer
            except OSError as error:
                raise Misconfigured(f"EXECUTOR_TRACES: {exporter}: {error.strerror}") from error
            self._provider = _file_provider(program, self._file)

    def span(
        self, name: str, traceparent: str, start_ns: int, end_ns: int, attributes: Mapping[str, Value] | None = None
    ) -> str:
        """Record one finished span under a context.

        Returns:
            The traceparent of the new span, for its children; the given one when nothing is recorded.
        """
        if self._provider is None:
            return traceparent
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 only with an exporter
            TraceContextTextMapPropagator,
        )

        propagator = TraceContextTextMapPropagator()
        parent = propagator.extract({"traceparent": traceparent})
        span = self._provider.get_tracer("executor").start_span(
            name, context=parent, start_time=start_ns, attributes=dict(attributes or {})
        )
        span.end(end_ns)
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def close(self) -> None:
        """Flush what is recorded."""
        if self._provider is not None and self._file is not None:
            self._provider.shutdown()
            self._file.close()


def _file_provider(program: str, out: TextIO) -> Any:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 only with an exporter
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource({"service.name": program}))
    exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider
