"""The commands that look: lanes, config, and the prompt on the server."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from cli import exits
from executor.errors import PermanentError
from executor.settings import Settings, described, server_url
from executor.streams.channel import Channel
from executor.streams.server import Cell, close_quietly
from executor.streams.upkeep import Upkeep
from executor.streams.waiting import Waiting


async def show_lanes(settings: Settings, *, as_json: bool) -> int:
    """A row for each lane."""
    cell = Cell(server_url(settings.server), settings.server, settings.delivery)
    upkeep, before = Upkeep(cell), Waiting(cell)
    try:
        executors = await upkeep.executors()
        rows = []
        for lane in await upkeep.lanes():
            view = await upkeep.view(lane)
            waiting, later = await before.count(lane)
            workers = [one for one in executors if one.alive and one.facts.get("lane") == lane]
            busy = sum(int(one.facts.get("busy", 0)) for one in workers)
            rows.append(
                {
                    "lane": lane,
                    "lag": view.lag,
                    "pending": view.pending,
                    "waiting": waiting,
                    "later": later,
                    "workers": len(workers),
                    "busy": busy,
                    "oldest_ms": round(view.oldest_ms),
                }
            )
    finally:
        await close_quietly(cell)
    if as_json:
        print(json.dumps(rows))  # noqa: T201
        return exits.OK
    table = Table("lane", "lag", "pending", "waiting", "later", "workers", "busy", "oldest (s)")
    for row in rows:
        lag = "unknown" if row["lag"] is None else str(row["lag"])
        values = [
            row["lane"],
            lag,
            row["pending"],
            row["waiting"],
            row["later"],
            row["workers"],
            row["busy"],
            f"{int(str(row['oldest_ms'])) / 1000:.1f}",
        ]
        table.add_row(*map(str, values))
    Console().print(table)
    return exits.OK


def show_config(settings: Settings, *, as_json: bool) -> None:
    """A row for each setting."""
    rows = [
        (name, _hidden(value), default, unit, meaning) for name, value, default, unit, meaning in described(settings)
    ]
    if as_json:
        names = ("variable", "value", "default", "unit", "meaning")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))  # noqa: T201
        return
    table = Table("variable", "value", "unit", "meaning")
    for name, value, default, unit, meaning in rows:
        table.add_row(name, f"[bold]{value}[/]" if value != default else str(value), unit, meaning)
    Console().print(table)


def _hidden(value: object) -> object:
    if isinstance(value, str) and "://" in value and (password := urlsplit(value).password):
        return value.replace(password, "***")
    return value


async def redis(settings: Settings, command: list[str], *, as_json: bool) -> int:
    """Send one command, or read commands from a prompt until end of file."""
    channel = Channel(server_url(settings.server), settings.server, "prompt")
    try:
        if command:
            return await _send(channel, command, as_json)
        while True:
            try:
                line = await asyncio.to_thread(input, "redis> " if sys.stdin.isatty() else "")
                words = shlex.split(line)
            except EOFError:
                return exits.OK
            except ValueError as error:
                print(f"(error) {error}")  # noqa: T201
                continue
            if words and words[0].lower() in ("exit", "quit"):
                return exits.OK
            if words:
                await _send(channel, words, as_json)
    finally:
        await channel.close()


async def _send(channel: Channel, words: list[str], as_json: bool) -> int:
    try:
        reply = _plain(await channel.call(*words))
    except PermanentError as error:
        print(f"(error) {error.__cause__ or error}", file=sys.stderr)  # noqa: T201
        return exits.USAGE
    print(json.dumps(reply, ensure_ascii=False) if as_json else "\n".join(_lines(reply, "")))  # noqa: T201
    return exits.OK


def _plain(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "backslashreplace")
    if isinstance(reply, list):
        return [_plain(item) for item in reply]
    return str(reply) if isinstance(reply, Exception) else reply


def _lines(reply: Any, indent: str) -> list[str]:
    if isinstance(reply, list):
        if not reply:
            return [f"{indent}(empty)"]
        lines = []
        for number, item in enumerate(reply, start=1):
            head = f"{indent}{number}) "
            first, *others = _lines(item, " " * len(head))
            lines += [head + first.lstrip(), *others]
        return lines
    return [f"{indent}{'(nil)' if reply is None else reply}"]
