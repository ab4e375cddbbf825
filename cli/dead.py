"""`executor dead`: the dead letters; what ended as lost or could not be answered, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli import exits
from executor.errors import InvalidField

if TYPE_CHECKING:
    from executor.streams.dead import DeadLetter, DeadLetters, Match
    from executor.streams.history import PastAttempt

dead = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="List, show, run again and purge the dead letters: what ended as lost or could not be answered.\n\n"
    "On a cluster this takes the user `admin`.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
Lane = Annotated[str | None, typer.Option(help="Only of this lane.")]
Why = Annotated[str | None, typer.Option("--reason", help="attempts, age, corrupt or unanswerable.")]
Id = Annotated[str | None, typer.Option("--id", help="Only of this evaluation.")]
_WHEN = "an age (90s, 15m, 2h, 7d) or a time (2026-01-31T12:00, local without a zone)"
Before = Annotated[str | None, typer.Option(help=f"Only earlier: {_WHEN}.")]
After = Annotated[str | None, typer.Option(help=f"Only since: {_WHEN}.")]
Everything = Annotated[bool, typer.Option("--all", help="All there are; instead of entries and filters.")]
Entries = Annotated[list[str] | None, typer.Argument(help="Ids of letters, as `executor dead list` shows them.")]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _command(name: str, more: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return dead.command(name, epilog=f"Example:  [bold]executor dead {name} {more}[/]")


@_command("list", "--lane warm.python --after 2h")
def list_letters(
    tenant: Tenant = None,
    lane: Lane = None,
    reason: Why = None,
    evaluation_id: Id = None,
    before: Before = None,
    after: After = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """Show dead letters, newest first."""
    match = _match(tenant, lane, reason, evaluation_id, before, after)
    raise typer.Exit(_with_letters(lambda letters: _list(letters, match, limit, as_json=as_json)))


@_command("show", "1700000000000-0")
def show(
    entry: Annotated[str, typer.Argument(help="Id of the letter, as `executor dead list` shows it.")],
    as_json: Json = False,
) -> None:
    """Show one dead letter with what is still known of its evaluation: record and result."""
    raise typer.Exit(_with_letters(lambda letters: _show(letters, entry, as_json=as_json)))


@_command("redrive", "--lane warm.python --reason age")
def redrive(
    entries: Entries = None,
    tenant: Tenant = None,
    lane: Lane = None,
    reason: Why = None,
    evaluation_id: Id = None,
    before: Before = None,
    after: After = None,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Run lost evaluations again, each under an id of its own (ID:again-N); their letters are gone then.

    Exit code 1: some cannot be run again, each is named with the reason; 5: there is no such letter.
    """
    match = _match(tenant, lane, reason, evaluation_id, before, after)
    _check_choice(entries, match, everything)
    raise typer.Exit(_with_letters(lambda letters: _redrive(letters, entries, match, as_json=as_json)))


@_command("purge", "--before 7d")
def purge(
    entries: Entries = None,
    tenant: Tenant = None,
    lane: Lane = None,
    reason: Why = None,
    evaluation_id: Id = None,
    before: Before = None,
    after: After = None,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Throw dead letters away. What they are about cannot be run again then.

    Exit code 5: there is no such letter.
    """
    match = _match(tenant, lane, reason, evaluation_id, before, after)
    _check_choice(entries, match, everything)
    raise typer.Exit(_with_letters(lambda letters: _purge(letters, entries, match, as_json=as_json)))


def _match(*words: str | None) -> Match:
    """Filters by their names; what is not given is left out."""
    given = zip(("tenant", "lane", "reason", "id", "before", "after"), words, strict=True)
    found: Any = {name: word for name, word in given if word is not None}
    for name in ("before", "after"):
        if name in found:
            found[name] = _moment(f"--{name}", found[name])
    return found  # type: ignore[no-any-return]


def _moment(option: str, text: str) -> datetime | timedelta:
    try:
        if age := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
            return timedelta(seconds=int(age[1]) * _UNITS[age[2]])
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise InvalidField(option, f"{text[:40]!r} is not {_WHEN}") from None


def _check_choice(entries: list[str] | None, match: Match, everything: bool) -> None:
    if everything and (entries or match):
        raise InvalidField("--all", "means every dead letter; leave out the entries and filters, or --all")
    if entries and match:
        raise InvalidField("ENTRIES", "given beside filters; give one or the other")
    if not (everything or entries or match):
        raise InvalidField("--all", "give entries, a filter, or --all for every dead letter")


def _with_letters(use: Callable[[DeadLetters], Coroutine[Any, Any, int]]) -> int:
    from executor.settings import load, server_url
    from executor.streams.dead import DeadLetters
    from executor.streams.server import Cell, close_quietly

    async def run() -> int:
        settings = load()
        cell = Cell(server_url(settings.server), settings.server, settings.delivery)
        try:
            return await use(DeadLetters(cell))
        except InvalidField as error:
            option = {"entry": "ENTRY"}.get(error.field, f"--{error.field}")
            raise InvalidField(option, error.reason) from None
        finally:
            await close_quietly(cell)

    return asyncio.run(run())


async def _list(letters: DeadLetters, match: Match, limit: int, *, as_json: bool) -> int:
    found = await letters.letters(limit + 1, **match)
    shown = found[:limit]
    if as_json:
        print(json.dumps([one.to_json() for one in shown], ensure_ascii=False))  # noqa: T201
    elif shown:
        _table(shown)
    else:
        print("no dead letters" + (" match" if match else ""))  # noqa: T201
    if len(found) > limit:
        _tell(f"there are older ones; --limit shows more than {limit}")
    return exits.OK


def _table(shown: list[DeadLetter]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for name in ("entry", "written (UTC)", "reason", "tenant", "id", "lane or stream", "attempts", "error"):
        table.add_column(name, no_wrap=name in ("entry", "reason"), overflow="fold")
    for one in shown:
        cells = (one.reason, one.tenant, one.id, one.lane or one.stream, str(one.attempts), one.error)
        table.add_row(one.entry, _time(one.at), *map(escape, cells))
    Console().print(table)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


async def _show(letters: DeadLetters, entry: str, *, as_json: bool) -> int:
    found = await letters.show(entry)
    if found is None:
        return _unknown(entry)
    result = found.result.to_json() if found.result else None
    if as_json:
        document = {"letter": found.letter.to_json(), "record": found.record, "result": result}
        print(json.dumps(document, ensure_ascii=False))  # noqa: T201
        return exits.OK
    _print_facts("letter", found.letter.to_json() | {"history": "", "at": f"{_time(found.letter.at)} UTC"})
    for past in found.letter.history:
        _print_attempt(past)
    _print_facts("record", found.record)
    _print_facts("result", result)
    return exits.OK


def _print_facts(title: str, values: Mapping[str, Any] | None) -> None:
    print(title + ("" if values else ": none any more"))  # noqa: T201
    for name, value in (values or {}).items():
        if value not in ("", None, [], {}):
            print(f"  {name:<14} {value}")  # noqa: T201


def _print_attempt(past: PastAttempt) -> None:
    number, when = str(past.attempt or "?"), f" at {_time(past.at)} UTC" if past.at else ""
    print(f"attempt {number} on {past.owner}{when}: {past.how or 'left no result'}")  # noqa: T201
    for line in past.output.splitlines():
        print(f"  | {_printable(line)}")  # noqa: T201


def _printable(text: str) -> str:
    """Text of evaluated code: a terminal must not obey it."""
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


async def _redrive(letters: DeadLetters, entries: list[str] | None, match: Match, *, as_json: bool) -> int:
    """Oldest first, as they came; what was done is said even if the server goes away in the middle."""
    done: dict[str, list[Any]] = {"redriven": [], "refused": [], "unknown": []}
    try:
        chosen = await _named(letters, entries, done["unknown"]) if entries else (await letters.letters(**match))[::-1]
        for one in chosen:
            about = {"entry": one.entry, "tenant": one.tenant, "id": one.id}
            try:
                again = await letters.redrive(one)
            except InvalidField as error:
                done["refused"].append({**about, "why": error.reason})
                if not as_json:
                    _tell(error.reason)
                continue
            done["redriven"].append({**about, "again": again})
            if not as_json:
                print(f"{one.id} runs again as {again}")  # noqa: T201
    finally:
        counts = ", ".join(f"{len(rows)} {word}" for word, rows in done.items())
        print(json.dumps(done, ensure_ascii=False) if as_json else counts)  # noqa: T201
    if done["unknown"]:
        return exits.UNKNOWN_ID
    return exits.NOT_AS_HOPED if done["refused"] else exits.OK


async def _named(letters: DeadLetters, entries: list[str], unknown: list[str]) -> list[DeadLetter]:
    """The letters of these entries; entries of none are told and noted."""
    found = []
    for entry in entries:
        letter = await letters.find(entry)
        if letter is None:
            unknown.append(entry)
            _unknown(entry)
        else:
            found.append(letter)
    return found


async def _purge(letters: DeadLetters, entries: list[str] | None, match: Match, *, as_json: bool) -> int:
    unknown: list[str] = []
    if entries:
        gone = sum([await letters.purge(one) for one in await _named(letters, entries, unknown)])
    else:
        gone = await letters.purge(everything=not match, **match)
    print(json.dumps({"purged": gone, "unknown": unknown}) if as_json else f"{gone} purged")  # noqa: T201
    return exits.UNKNOWN_ID if unknown else exits.OK


def _unknown(entry: str) -> int:
    _tell(f"there is no dead letter {entry}; for those of an evaluation: executor dead list --id {entry}")
    return exits.UNKNOWN_ID


def _tell(text: str) -> None:
    print(f"executor: {text}", file=sys.stderr)  # noqa: T201
