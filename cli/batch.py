"""Batches: one JSON object a line, submitted with bounded work in flight, results written as they come."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executor.client import Client, Handle
from executor.errors import BacklogFull, ExecutorError, InvalidField, Misconfigured
from executor.outcome import Outcome
from executor.result import EvaluationResult

_IN_FLIGHT = 2000
_CHUNK = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a batch: request fields, and the outcome that the author expects."""

    line: int
    request: dict[str, Any]
    expect: str | None


def read_rows(path: Path) -> list[Row]:
    """Read a JSONL file.

    Raises:
        Misconfigured: it cannot be read, or a line is not an object; the message names the line.
    """
    rows = []
    try:
        lines = path.read_text("utf-8").split("\n")
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path}: {error}") from error
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            request = json.loads(line)
        except ValueError as error:
            raise Misconfigured(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(request, dict):
            raise Misconfigured(f"{path}, line {number}: not an object with `code` and other request fields")
        expect = request.pop("expect", None)
        if expect is not None and expect not in set(Outcome):
            raise Misconfigured(f"{path}, line {number}: expect: {expect!r} is none of {', '.join(Outcome)}")
        name = str(request.get("id", f"line-{number}"))
        if name in seen:
            raise Misconfigured(
                f"{path}, line {number}: id: {name!r} stands on line {seen[name]} already; ids are run once"
            )
        seen[name] = number
        rows.append(Row(number, request, expect))
    return rows


@dataclass(slots=True)
class Batch:
    """A batch under way.

    Attributes:
        outcomes: how many ended how.
        surprises: (id, expected, outcome) of those that ended otherwise than expected.
        refused: (id, why) of those that were rejected, and were not expected to be.
        milliseconds: of each evaluation, from submission to its result here.
    """

    rows: list[Row]
    outcomes: Counter[str] = field(default_factory=Counter)
    surprises: list[tuple[str, str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    async def run(self, client: Client, on_result: Callable[[EvaluationResult], None]) -> None:
        """Submit every row and wait for every result.

        Raises:
            ExecutorError: the first that a chunk of rows met; the other chunks are given up.
        """
        started = time.monotonic()
        room = asyncio.Semaphore(_IN_FLIGHT)
        try:
            async with asyncio.TaskGroup() as group:
                for start in range(0, len(self.rows), _CHUNK):
                    rows = self.rows[start : start + _CHUNK]
                    for _ in rows:
                        await room.acquire()
                    group.create_task(self._submit(client, rows, room, on_result))
        except ExceptionGroup as group_error:
            ours, _ = group_error.split(ExecutorError)
            if ours is None:
                raise
            raise ours.exceptions[0] from None
        finally:
            self.seconds = time.monotonic() - started

    async def _submit(
        self, client: Client, rows: list[Row], room: asyncio.Semaphore, on_result: Callable[[EvaluationResult], None]
    ) -> None:
        sent = time.monotonic()
        good = []
        for row in rows:
            try:
                client.check(row.request)
                good.append(row)
            except InvalidField as error:
                name = str(row.request.get("id", f"line-{row.line}"))
                refused = EvaluationResult(id=name, outcome=Outcome.REJECTED, error=str(error), field=error.field)
                self._finish(row, refused, 0.0, room, on_result)
        handles = await _submit_when_there_is_room(client, [row.request for row in good])

        async def follow(row: Row, index: int) -> None:
            result = await handles[index].wait()
            self._finish(row, result, (time.monotonic() - sent) * 1000, room, on_result)

        await asyncio.gather(*(follow(row, index) for index, row in enumerate(good)))

    def _finish(
        self,
        row: Row,
        result: EvaluationResult,
        milliseconds: float,
        room: asyncio.Semaphore,
        on_result: Callable[[EvaluationResult], None],
    ) -> None:
        room.release()
        self.outcomes[result.outcome] += 1
        self.milliseconds.append(milliseconds)
        if result.outcome is Outcome.REJECTED and row.expect != result.outcome:
            self.refused.append((result.id, result.error))
        if row.expect is not None and row.expect != result.outcome:
            self.surprises.append((result.id, row.expect, result.outcome))
        on_result(result)

    def report(self) -> dict[str, Any]:
        """Outcomes, rate and latencies as plain values."""
        times = sorted(self.milliseconds)
        done = len(times)
        return {
            "evaluations": len(self.rows),
            "done": done,
            "outcomes": dict(sorted(self.outcomes.items())),
            "expected": sum(row.expect is not None for row in self.rows),
            "unexpected": [dict(zip(("id", "expected", "outcome"), item, strict=True)) for item in self.surprises],
            "seconds": round(self.seconds, 3),
            "per_second": round(done / self.seconds, 1) if self.seconds else 0.0,
            "p50_ms": round(times[done // 2], 1) if times else 0.0,
            "p99_ms": round(times[min(done - 1, done * 99 // 100)], 1) if times else 0.0,
        }

    def summary(self) -> str:
        """The report as one line."""
        found = self.report()
        outcomes = ", ".join(f"{count} {name}" for name, count in found["outcomes"].items())
        verdict = f"{len(self.surprises)} not as expected" if found["expected"] else "no expectations given"
        rate = f"{found['per_second']}/s, p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms"
        return f"{found['done']} of {found['evaluations']}: {outcomes}; {verdict}; {rate}"


async def _submit_when_there_is_room(client: Client, requests: list[dict[str, Any]]) -> list[Handle]:
    """Submit all; a chunk is taken whole or not at all, so it can be submitted again."""
    while True:
        try:
            return await client.submit_many(requests)
        except BacklogFull as full:
            await asyncio.sleep(full.retry_after)  # whose work makes room is not known here
