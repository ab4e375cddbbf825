"""`executor dead` as a process: what it lists, runs again and throws away, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from cli import exits
from tests.support.command import Done, execute
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(90)

WIDE = {"COLUMNS": "200"}


@pytest.fixture
async def lost(stack: Stack) -> AsyncIterator[Stack]:
    """Two evaluations, `one` and `two`, that nobody took, and an older letter of a corrupt one."""
    variables = {"EXECUTOR_MAX_AGE": "1", "EXECUTOR_JANITOR_INTERVAL": "0.1"}
    running = Stack(stack.cell.url, stack.cell.keys.prefix, **variables)
    facts = ("id", "bad", "tenant", "acme", "lane", "job.cpu", "reason", "corrupt", "error", "[red]no", "attempts", "1")
    await running.redis.call("XADD", running.cell.keys.dead(), "1000-0", *facts, "history", "a")
    await running.dispatcher()
    for name in ("one", "two"):
        await running.add(id=name, code="pass")
        await running.result(name)
    yield running
    await running.close()


async def run(stack: Stack, *words: str) -> Done:
    return await execute({**stack.environ, **WIDE}, "dead", *words)


async def ids(stack: Stack) -> list[str]:
    return [one.id for one in await stack.client.dead_letters()]


async def test_list_shows_letters_newest_first(lost: Stack) -> None:
    plain, as_json = await run(lost, "list"), await run(lost, "list", "--json")

    assert plain.code == as_json.code == exits.OK
    rows = as_json.json
    assert [row["id"] for row in rows] == ["two", "one", "bad"]
    assert rows[2] == {
        "entry": "1000-0", "id": "bad", "tenant": "acme", "lane": "job.cpu", "stream": "", "reason": "corrupt",
        "error": "[red]no", "attempts": 1,
        "history": [{"owner": "a", "attempt": 0, "at": 0, "how": "", "output": ""}], "at": 1000,
    }  # fmt: skip
    for word in ("1000-0", "1970-01-01 00:00:01", "corrupt", "[red]no", "warm.python", "two"):
        assert word in plain.stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--tenant", "acme"), ["bad"]),
        (("--lane", "warm.python"), ["two", "one"]),
        (("--reason", "corrupt"), ["bad"]),
        (("--id", "one"), ["one"]),
        (("--before", "1h"), ["bad"]),
        (("--after", "1h"), ["two", "one"]),
        (("--after", "1970-01-01T00:00:01Z", "--before", "1970-01-01T00:00:02+00:00"), ["bad"]),
        (("--after", "1970-01-02"), ["two", "one"]),
        (("--tenant", "nobody"), []),
    ],
)
async def test_filters_choose(lost: Stack, words: tuple[str, ...], found: list[str]) -> None:
    assert [row["id"] for row in (await run(lost, "list", "--json", *words)).json] == found


async def test_a_limit_says_that_there_are_more(lost: Stack) -> None:
    done = await run(lost, "list", "--limit", "1", "--json")

    assert [row["id"] for row in done.json] == ["two"]
    assert "--limit" in done.stderr
    assert (await run(lost, "list", "--tenant", "nobody")).stdout == "no dead letters match\n"


async def test_show_has_record_and_result(lost: Stack) -> None:
    (letter,) = await lost.client.dead_letters(id="one")

    plain, as_json = await run(lost, "show", letter.entry), await run(lost, "show", letter.entry, "--json")
    bare = await run(lost, "show", "1000-0")

    assert plain.code == as_json.code == bare.code == exits.OK
    shown = as_json.json
    assert shown["letter"]["entry"] == letter.entry
    assert (shown["record"]["state"], shown["record"]["outcome"]) == ("done", "lost")
    assert int(shown["record"]["payload_bytes"]) > 0
    assert shown["result"]["error"] == letter.error
    assert "reason         age" in plain.stdout
    assert "record: none any more\nresult: none any more\n" in bare.stdout


async def test_show_tells_how_each_attempt_ended(lost: Stack) -> None:
    """What evaluated code wrote is shown, and no terminal obeys it."""
    past = {"attempt": 1, "owner": "w-1", "at": 1000, "how": "its lease ran out", "output": "one\n\x1b[2Jtwo\n"}
    facts = ("id", "poison", "reason", "attempts", "attempts", "2", "history", f"{json.dumps(past)},w-0")
    entry = (await lost.redis.call("XADD", lost.cell.keys.dead(), "*", *facts)).decode()

    plain, as_json = await run(lost, "show", entry), await run(lost, "show", entry, "--json")

    told = (
        "attempt 1 on w-1 at 1970-01-01 00:00:01 UTC: its lease ran out\n  | one\n  | \N{REPLACEMENT CHARACTER}[2Jtwo\n"
    )
    assert told + "attempt ? on w-0: left no result\n" in plain.stdout
    unknown = {"owner": "w-0", "attempt": 0, "at": 0, "how": "", "output": ""}
    assert as_json.json["letter"]["history"] == [past, unknown]


async def test_redrive_runs_what_it_can_and_names_what_not(lost: Stack) -> None:
    done = await run(lost, "redrive", "--all")

    assert done.code == exits.NOT_AS_HOPED
    assert (
        done.stdout
        == "one runs again as one:again-1\ntwo runs again as two:again-1\n2 redriven, 1 refused, 0 unknown\n"
    )
    assert "1000-0 (bad) cannot be run again: what is stored" in done.stderr
    assert await lost.client.state("one:again-1")
    assert "bad" in await ids(lost)


async def test_redrive_of_entries_and_by_filter(lost: Stack) -> None:
    (one,) = await lost.client.dead_letters(id="one")

    named = await run(lost, "redrive", one.entry, "--json")
    again = await run(lost, "redrive", one.entry, "--json")
    filtered = await run(lost, "redrive", "--id", "two")
    nothing = await run(lost, "redrive", "--id", "nobody")

    about = {"entry": one.entry, "tenant": "default", "id": "one", "again": "one:again-1"}
    assert (named.code, named.json) == (exits.OK, {"redriven": [about], "refused": [], "unknown": []})
    assert (again.code, again.json["unknown"]) == (exits.UNKNOWN_ID, [one.entry])
    assert f"no dead letter {one.entry}" in again.stderr
    assert (filtered.code, nothing.code) == (exits.OK, exits.OK)
    assert nothing.stdout == "0 redriven, 0 refused, 0 unknown\n"


async def test_purge_by_filter_entry_and_all(lost: Stack) -> None:
    filtered = await run(lost, "purge", "--tenant", "acme")
    left = await lost.client.dead_letters()
    named = await run(lost, "purge", left[0].entry, "1-1", "--json")
    everything = await run(lost, "purge", "--all")

    assert (filtered.code, filtered.stdout) == (exits.OK, "1 purged\n")
    assert [one.id for one in left] == ["two", "one"]
    assert (named.code, named.json) == (exits.UNKNOWN_ID, {"purged": 1, "unknown": ["1-1"]})
    assert (everything.code, everything.stdout) == (exits.OK, "1 purged\n")
    assert await ids(lost) == []


@pytest.mark.parametrize(
    ("words", "option", "reason"),
    [
        (("purge",), "--all", "filter"),
        (("redrive",), "--all", "filter"),
        (("purge", "--all", "--lane", "x"), "--all", "leave out"),
        (("redrive", "1-1", "--lane", "x"), "ENTRIES", "one or the other"),
        (("purge", "--lane", ""), "--lane", "empty"),
        (("list", "--reason", "boredom"), "--reason", "attempts, age, corrupt, unanswerable"),
        (("list", "--tenant", "a b"), "--tenant", "'a b'"),
        (("list", "--id", "a/b"), "--id", "'a/b'"),
        (("list", "--before", "soon"), "--before", "'soon'"),
        (("purge", "--after", "9999999999d"), "--after", "'9999999999d'"),
        (("show", "one"), "ENTRY", "'one'"),
        (("redrive", "one"), "ENTRY", "'one'"),
        (("purge", "one"), "ENTRY", "'one'"),
    ],
)
async def test_a_bad_argument_is_exit_2_and_named(
    stack: Stack, words: tuple[str, ...], option: str, reason: str
) -> None:
    await stack.redis.call("XADD", stack.cell.keys.dead(), "*", "id", "a")

    done = await run(stack, *words)

    assert done.code == exits.USAGE
    assert done.stderr.startswith(f"executor: {option}: "), done.stderr
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert await ids(stack) == ["a"]


async def test_an_unknown_letter_is_exit_5_and_points_to_the_evaluation(stack: Stack) -> None:
    done = await run(stack, "show", "5-5")

    assert (done.code, done.stdout) == (exits.UNKNOWN_ID, "")
    assert "executor dead list --id 5-5" in done.stderr


async def test_no_server_is_exit_3(stack: Stack) -> None:
    environ = {**stack.environ, "REDIS_URL": "unix:///nothing.sock"}

    done = [await execute(environ, "dead", *words) for words in (("list",), ("redrive", "--all"), ("purge", "--all"))]

    assert [one.code for one in done] == [exits.SERVER_AWAY] * 3


@pytest.mark.parametrize("command", ["list", "show", "redrive", "purge"])
async def test_help_has_an_example(stack: Stack, command: str) -> None:
    done = await run(stack, command, "--help")

    assert done.code == exits.OK
    assert f"executor dead {command}" in done.stdout.split("Example:")[1]
    assert "--json" in done.stdout


async def test_json_of_a_redrive_is_whole_without_letters(stack: Stack) -> None:
    done = await run(stack, "redrive", "--all", "--json")

    assert json.loads(done.stdout) == {"redriven": [], "refused": [], "unknown": []}
