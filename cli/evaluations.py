"""The commands about evaluations: submit, batch, result, cancel."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli import exits
from cli.batch import Batch, read_rows
from executor.client import Client, Handle
from executor.errors import InvalidField
from executor.outcome import Outcome
from executor.result import EvaluationResult

_SHOWN: Final = 20
"""Rows of a batch that are told one by one; the file has all."""


async def submit_one(
    client: Client, fields: dict[str, Any], wait: bool, wait_timeout: float | None, as_json: bool
) -> int:
    """Submit; print the id, or the output as it comes, or the result."""
    handle = await client.submit(**fields)
    if not wait:
        print(json.dumps({"id": handle.id}) if as_json else handle.id)  # noqa: T201
        return exits.OK
    try:
        async with asyncio.timeout(wait_timeout):
            if fields.get("stream") and not as_json:
                await _show_stream(handle)
            result = await handle.wait()
    except TimeoutError:
        print(f"executor: {handle.id} has no result yet; see `executor result {handle.id}`", file=sys.stderr)  # noqa: T201
        return exits.STILL_RUNNING
    return _show(result, as_json, shown=bool(fields.get("stream")))


async def _show_stream(handle: Handle) -> None:
    attempt = 1
    async for chunk in handle.stream():
        if chunk.attempt != attempt:
            attempt = chunk.attempt
            print(f"\n--- started again (attempt {attempt}); what is above is void ---", file=sys.stderr)  # noqa: T201
        target = sys.stderr if chunk.stream == "stderr" else sys.stdout
        target.write(chunk.text)
        target.flush()


def _show(result: EvaluationResult, as_json: bool, *, shown: bool = False) -> int:
    if as_json:
        print(json.dumps(result.to_json(), ensure_ascii=False))  # noqa: T201
    else:
        if not shown:
            sys.stdout.write(result.stdout)
            sys.stdout.flush()
            sys.stderr.write(result.stderr)
        if result.outcome != Outcome.SUCCEEDED:
            print(f"executor: {result.outcome}: {result.error}", file=sys.stderr)  # noqa: T201
    return exits.OK if result.outcome == Outcome.SUCCEEDED else exits.NOT_AS_HOPED


async def run_batch(client: Client, file: Path, out: Path, as_json: bool) -> int:
    """Run a batch with a progress bar on stderr; each result is written when it comes."""
    batch = Batch(read_rows(file))
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[outcomes]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=as_json,
    )
    code = exits.OK
    target: TextIO | None = None
    with ExitStack() as stack, progress:
        bar = progress.add_task("evaluations", total=len(batch.rows), rate="", outcomes="")

        def on_result(result: EvaluationResult) -> None:
            nonlocal target
            target = target or stack.enter_context(_opened(out))  # only now: nothing is lost to a server that is away
            target.write(json.dumps(result.to_json(), ensure_ascii=False) + "\n")
            target.flush()
            outcomes = " ".join(f"{count} {name}" for name, count in sorted(batch.outcomes.items()))
            speed = progress.tasks[bar].speed
            progress.update(bar, advance=1, rate=f"{speed:.0f}/s" if speed else "", outcomes=outcomes)

        running = asyncio.ensure_future(batch.run(client, on_result))
        try:
            await running
        except asyncio.CancelledError:
            code = exits.INTERRUPTED
            left = len(batch.rows) - len(batch.milliseconds)
            print(  # noqa: T201
                f"executor: {left} still run; a second batch with the same ids collects them", file=sys.stderr
            )
    print(json.dumps(batch.report()) if as_json else batch.summary())  # noqa: T201
    if not as_json:
        for evaluation_id, expected, outcome in batch.surprises[:_SHOWN]:
            print(f"  {evaluation_id}: expected {expected}, is {outcome}")  # noqa: T201
        for evaluation_id, why in batch.refused[:_SHOWN]:
            print(f"  {evaluation_id}: rejected: {why}")  # noqa: T201
    return code or (exits.NOT_AS_HOPED if batch.surprises else exits.OK)


def _opened(out: Path) -> TextIO:
    try:
        return out.open("w", encoding="utf-8")
    except OSError as error:
        raise InvalidField("--out", f"{out}: {error.strerror}") from None


async def show_result(client: Client, evaluation_id: str, as_json: bool) -> int:
    """Print a result; without one, say where the evaluation stands."""
    result = await client.result(evaluation_id)
    if result is not None:
        return _show(result, as_json)
    state = await client.state(evaluation_id)
    if not state:
        print(f"executor: no evaluation {evaluation_id} is known; results are kept for a day", file=sys.stderr)  # noqa: T201
        return exits.UNKNOWN_ID
    print(json.dumps(state) if as_json else " ".join(f"{name}={value}" for name, value in state.items()))  # noqa: T201
    return exits.STILL_RUNNING


async def cancel_one(client: Client, evaluation_id: str, as_json: bool) -> int:
    """Take an evaluation back and say truthfully what that did."""
    word, more = await client.cancel(evaluation_id)
    texts = {
        "cancelled": "cancelled before it ran",
        "cancelling": f"running on {more}, which is told to stop it",
        "done": f"too late: it has {more}",
        "duplicate": f"its idempotency key was used before: executor cancel {more}",
        "unknown": f"no evaluation {evaluation_id} is known",
    }
    print(json.dumps({"id": evaluation_id, "answer": word, "detail": more}) if as_json else texts[word])  # noqa: T201
    if word == "unknown":
        return exits.UNKNOWN_ID
    return exits.OK if word in ("cancelled", "cancelling") else exits.NOT_AS_HOPED
