"""`executor trace`: the timeline of one evaluation, from Jaeger's query API or from a file of spans."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import exits
from executor.errors import InvalidField, Misconfigured, ServerUnavailable
from executor.settings import Settings, server_url
from executor.streams.server import Cell, close_quietly
from executor.tracing import is_sampled

_BAR: Final = 24
_PATIENCE: Final = 3.0
"""Seconds that the last spans of an evaluation that has ended may take to arrive."""
_LEAST_GAP_US: Final = 5
"""Shorter gaps are rounding: Jaeger keeps microseconds."""
_CONVERSATION: Final = "messaging.message.conversation_id"


@dataclass(frozen=True, slots=True)
class Row:
    """A span as both sources tell it."""

    name: str
    service: str
    span_id: str
    parent_id: str
    start_us: int
    end_us: int
    attributes: dict[str, Any]
    error: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Time between the first and the last span that no phase covers."""

    start_us: int
    end_us: int


class NotThere(Exception):
    """There is no such timeline; carries what to say and the exit code."""

    def __init__(self, message: str, code: int = exits.NOT_AS_HOPED) -> None:
        super().__init__(message)
        self.code = code


async def show_trace(settings: Settings, evaluation_id: str, tenant: str, file: Path | None, *, as_json: bool) -> int:
    """Print the timeline, or say why there is none."""
    try:
        if file is not None:
            rows = _from_file(file, evaluation_id, tenant)
        else:
            rows = await _from_jaeger(settings, evaluation_id, tenant)
    except NotThere as reason:
        print(f"executor: {reason}", file=sys.stderr)  # noqa: T201
        return reason.code
    depths = _depths(rows)
    rows.sort(key=lambda row: (row.start_us, depths[row.span_id], row.end_us))
    if as_json:
        print(json.dumps(as_document(evaluation_id, rows)))  # noqa: T201
    else:
        _print(rows)
    return exits.OK


async def _from_jaeger(settings: Settings, evaluation_id: str, tenant: str) -> list[Row]:
    url = settings.telemetry.jaeger.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Misconfigured(f"EXECUTOR_JAEGER: {url!r} is not http(s)://host:16686")
    context, done = await _context_of(settings, evaluation_id, tenant)
    trace_id = context[3:35]
    if not is_sampled(context):
        raise NotThere(f"trace {trace_id} was not sampled; EXECUTOR_TRACES_SAMPLE is the part that is recorded")
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while True:
        rows = belonging(await asyncio.to_thread(ask_jaeger, url, trace_id), tenant, evaluation_id)
        whole = any(row.name == "evaluate" for row in rows)
        if whole or (rows and not done):
            return rows
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.25)
    if rows:
        return rows
    raise NotThere(
        f"Jaeger at {url} has no trace {trace_id}; were dispatcher and worker started with"
        " EXECUTOR_TRACES=http://<its host>:4318?"
    )


async def _context_of(settings: Settings, evaluation_id: str, tenant: str) -> tuple[str, bool]:
    """The traceparent in the record, and whether the evaluation has ended."""
    cell = Cell(server_url(settings.server), settings.server, settings.delivery)
    try:
        record = cell.keys.record(tenant, evaluation_id)
        channel = cell.channel("trace")
        state, context = await channel.call("HMGET", record, "state", "traceparent")
        if state and not context:  # rejected: only its result knows
            (context,) = await channel.call("HMGET", cell.keys.result(tenant, evaluation_id), "traceparent")
    finally:
        await close_quietly(cell)
    if state is None:
        raise NotThere(
            f"no evaluation {evaluation_id} is known; records are kept for a day, spans in --file for as long as it is",
            exits.UNKNOWN_ID,
        )
    if not context:
        raise NotThere(
            f"{evaluation_id} has no trace: it was rejected, and what it sent could not be read as far as a traceparent"
        )
    return context.decode(), state == b"done"


def ask_jaeger(url: str, trace_id: str) -> list[Row]:
    """Every span of a trace; [] when there is none."""
    try:
        with urllib.request.urlopen(f"{url}/api/traces/{trace_id}", timeout=5) as answer:  # noqa: S310 http(s) only
            document = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return []
        raise ServerUnavailable(f"Jaeger at {url} answers {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ServerUnavailable(
            f"no Jaeger at {url} ({reason}); set EXECUTOR_JAEGER to its query address, or give --file"
        ) from error
    return [_of_jaeger(span, trace["processes"]) for trace in document["data"] for span in trace["spans"]]


def _of_jaeger(span: dict[str, Any], processes: dict[str, Any]) -> Row:
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    parents = [link["spanID"] for link in span["references"] if link["refType"] == "CHILD_OF"]
    error = str(tags.get("otel.status_description", "error")) if tags.get("error") else ""
    return Row(
        span["operationName"],
        processes[span["processID"]]["serviceName"],
        span["spanID"].zfill(16),
        parents[0].zfill(16) if parents else "",
        span["startTime"],
        span["startTime"] + span["duration"],
        tags,
        error,
    )


def _from_file(file: Path, evaluation_id: str, tenant: str) -> list[Row]:
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidField("--file", f"{file}: {getattr(error, 'strerror', None) or error}") from None
    by_trace: dict[str, list[Row]] = {}
    found: set[str] = set()
    for number, line in enumerate(lines, start=1):
        try:
            span = json.loads(line)
            row, trace_id = _of_file(span), span["context"]["trace_id"]
        except (ValueError, KeyError, TypeError, AttributeError):
            if number == len(lines):
                break  # being written
            raise InvalidField("--file", f"{file}, line {number}: not a span as EXECUTOR_TRACES writes") from None
        by_trace.setdefault(trace_id, []).append(row)
        if _is_own(row, tenant, evaluation_id):
            found.add(trace_id)
    if not found:
        raise NotThere(f"no span of evaluation {evaluation_id} in {file}; was it sampled?", exits.UNKNOWN_ID)
    rows = by_trace[found.pop()]
    return belonging(rows, tenant, evaluation_id)


def _of_file(span: dict[str, Any]) -> Row:
    def micros(text: str) -> int:
        moment = datetime.fromisoformat(text)
        return int(moment.timestamp()) * 1_000_000 + moment.microsecond

    status = span["status"]
    return Row(
        span["name"],
        span["resource"]["attributes"]["service.name"],
        span["context"]["span_id"].removeprefix("0x"),
        (span["parent_id"] or "").removeprefix("0x"),
        micros(span["start_time"]),
        micros(span["end_time"]),
        span["attributes"] or {},
        status.get("description", "error") if status["status_code"] == "ERROR" else "",
    )


def belonging(rows: Sequence[Row], tenant: str, evaluation_id: str) -> list[Row]:
    """The spans of one evaluation, of a trace that may have many: its own, and what was recorded below them."""
    wanted: set[str] = set()
    more = {row.span_id for row in rows if _is_own(row, tenant, evaluation_id)}
    while more - wanted:
        wanted |= more
        more = {row.span_id for row in rows if row.parent_id in wanted and _CONVERSATION not in row.attributes}
    return [row for row in rows if row.span_id in wanted]


def _is_own(row: Row, tenant: str, evaluation_id: str) -> bool:
    return row.attributes.get(_CONVERSATION) == evaluation_id and row.attributes.get("executor.tenant") == tenant


def gaps(rows: Sequence[Row]) -> list[Gap]:
    """What no phase covers between the first and the last span; `rows` begin with the earliest."""
    found: list[Gap] = []
    if not rows:
        return found
    covered = min(row.start_us for row in rows)
    last = max(row.end_us for row in rows)
    for row in rows:
        if row.name == "evaluate":
            continue
        if row.start_us - covered >= _LEAST_GAP_US:
            found.append(Gap(covered, row.start_us))
        covered = max(covered, row.end_us)
    if last - covered >= _LEAST_GAP_US:
        found.append(Gap(covered, last))
    return found


def as_document(evaluation_id: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The timeline for `--json`."""
    first, total = _extent(rows)
    missing = gaps(rows)

    def times(start_us: int, end_us: int) -> dict[str, float]:
        return {
            "start_ms": (start_us - first) / 1000,
            "duration_ms": (end_us - start_us) / 1000,
            "percent": round(100 * (end_us - start_us) / total, 2),
        }

    return {
        "id": evaluation_id,
        "total_ms": total / 1000,
        "spans": [
            {
                "phase": row.name,
                "service": row.service,
                **times(row.start_us, row.end_us),
                "attempt": row.attributes.get("executor.attempt"),
                "span_id": row.span_id,
                "parent_id": row.parent_id,
                "error": row.error,
            }
            for row in rows
        ],
        "gaps": [times(gap.start_us, gap.end_us) for gap in missing],
        "unexplained_percent": round(100 * sum(gap.end_us - gap.start_us for gap in missing) / total, 2),
    }


def _extent(rows: Sequence[Row]) -> tuple[int, int]:
    first = min(row.start_us for row in rows)
    return first, max(1, max(row.end_us for row in rows) - first)


def _print(rows: Sequence[Row]) -> None:
    first, total = _extent(rows)
    table = Table(box=None, pad_edge=False)
    for name in ("phase", "service", "start ms", "ms", "%", ""):
        table.add_column(name, justify="right" if name in ("start ms", "ms", "%") else "left", no_wrap=True)
    depths = _depths(rows)

    def line(name: str, service: str, start_us: int, end_us: int, style: str) -> None:
        cells = (f"{(start_us - first) / 1000:.2f}", f"{(end_us - start_us) / 1000:.2f}")
        share = f"{100 * (end_us - start_us) / total:.1f}"
        bar = _bar((start_us - first) / total, (end_us - first) / total)
        table.add_row(name, service, *cells, share, Text(bar, style=style or "cyan"), style=style)

    lines: list[tuple[int, Row | Gap]] = [(row.start_us, row) for row in rows]
    lines += [(gap.start_us, gap) for gap in gaps(rows)]
    for _, item in sorted(lines, key=lambda pair: pair[0]):
        if isinstance(item, Gap):
            line("  (unexplained)", "", item.start_us, item.end_us, "yellow")
            continue
        attempt = item.attributes.get("executor.attempt", 1)
        more = (f" #{attempt}" if attempt != 1 else "") + (f" ({item.error})" if item.error else "")
        name = "  " * depths[item.span_id] + item.name + more
        line(name, item.service.removeprefix("executor-"), item.start_us, item.end_us, "red" if item.error else "")
    Console().print(table)


def _depths(rows: Sequence[Row]) -> dict[str, int]:
    parents = {row.span_id: row.parent_id for row in rows}

    def depth(span_id: str, below: int = 0) -> int:
        above = parents[span_id]
        return depth(above, below + 1) if above in parents and below < len(parents) else below

    return {span_id: depth(span_id) for span_id in parents}


def _bar(start: float, end: float) -> str:
    left = min(_BAR - 1, int(start * _BAR))
    return " " * left + "█" * max(1, round(end * _BAR) - left)
