"""Every command as a process: what it prints, where, and its exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli import exits
from cli.main import app
from executor.settings import Settings, described
from tests.support.command import Done, end, execute, interrupt, start
from tests.support.stack import Stack
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(90)

COMMANDS = [info.name or (info.callback.__name__ if info.callback else "") for info in app.registered_commands]


async def _serve(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()


def _one_line(done: Done) -> str:
    """A message for a person: one line, no traceback."""
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("executor: ")
    return done.stderr


async def test_submit_prints_what_the_code_printed(stack: Stack) -> None:
    await _serve(stack)
    code = "import sys; print(6*7); print('oh', file=sys.stderr)"

    assert await execute(stack.environ, "submit", "-c", code) == Done(exits.OK, "42\n", "oh\n")


async def test_submit_takes_a_file_or_standard_input(stack: Stack, tmp_path: Path) -> None:
    await _serve(stack)
    file = tmp_path / "program.py"
    file.write_text("print('fïle', input())")
    words = tmp_path / "words"
    words.write_text("in\n")

    from_file = await execute(stack.environ, "submit", str(file), "--stdin", str(words))
    from_stdin = await execute(stack.environ, "submit", stdin=b"print('piped')")
    from_dash = await execute(stack.environ, "submit", "-", stdin=b"print('dash')")

    assert (from_file.code, from_file.stdout) == (exits.OK, "fïle in\n")
    assert (from_stdin.code, from_stdin.stdout) == (exits.OK, "piped\n")
    assert (from_dash.code, from_dash.stdout) == (exits.OK, "dash\n")


async def test_submit_as_json_prints_the_result(stack: Stack) -> None:
    await _serve(stack)

    done = await execute(stack.environ, "submit", "-c", "print(1)", "--id", "mine", "--json")

    assert done.code == exits.OK
    assert (done.json["id"], done.json["outcome"], done.json["stdout"]) == ("mine", "succeeded", "1\n")


async def test_submit_without_waiting_prints_the_id_that_result_takes(stack: Stack) -> None:
    await _serve(stack)

    sent = await execute(stack.environ, "submit", "-c", "print('later')", "--no-wait")
    evaluation_id = sent.stdout.strip()
    await stack.result(evaluation_id)
    plain = await execute(stack.environ, "result", evaluation_id)
    as_json = await execute(stack.environ, "result", evaluation_id, "--json")

    assert (sent.code, plain.code, as_json.code) == (exits.OK, exits.OK, exits.OK)
    assert plain.stdout == "later\n"
    assert as_json.json["outcome"] == "succeeded"


async def test_submit_streams_while_it_runs(stack: Stack) -> None:
    await _serve(stack)
    process = await start(stack.environ, "submit", "--stream", "--id", "live", "-c", "print('first')\nwhile True: pass")
    assert process.stdout is not None

    assert await process.stdout.readline() == b"first\n"
    await stack.client.cancel("live")
    done = await end(process)

    assert done.code == exits.NOT_AS_HOPED
    assert done.stdout == "", "what was streamed is not printed again"
    assert "cancelled" in done.stderr


async def test_failing_code_is_exit_1_with_its_traceback(stack: Stack) -> None:
    await _serve(stack)

    done = await execute(stack.environ, "submit", "-c", "print('before'); 1 / 0")

    assert (done.code, done.stdout) == (exits.NOT_AS_HOPED, "before\n")
    assert "ZeroDivisionError" in done.stderr
    assert "executor: failed" in done.stderr


async def test_a_wait_that_is_over_leaves_the_evaluation_running(stack: Stack) -> None:
    await stack.dispatcher()

    done = await execute(stack.environ, "submit", "-c", "pass", "--id", "slow", "--wait-timeout", "0.3")
    looked = await execute(stack.environ, "result", "slow")

    assert done.code == exits.STILL_RUNNING
    assert "executor result slow" in _one_line(done)
    assert looked.code == exits.STILL_RUNNING
    assert "state=queued" in looked.stdout


async def test_an_unknown_id_is_exit_5(stack: Stack) -> None:
    looked = await execute(stack.environ, "result", "nobody")
    taken_back = await execute(stack.environ, "cancel", "nobody")

    assert (looked.code, taken_back.code) == (exits.UNKNOWN_ID, exits.UNKNOWN_ID)
    assert "nobody" in _one_line(looked)
    assert "nobody" in taken_back.stdout


async def test_cancel_says_what_it_did(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.client.submit("while True: pass", id="queued")
    await wait_until(lambda: _known(stack, "queued"), "it is admitted")

    first = await execute(stack.environ, "cancel", "queued")
    second = await execute(stack.environ, "cancel", "queued", "--json")

    assert (first.code, first.stdout) == (exits.OK, "cancelled before it ran\n")
    assert second.code == exits.NOT_AS_HOPED
    assert second.json == {"id": "queued", "answer": "done", "detail": "cancelled"}


async def _known(stack: Stack, evaluation_id: str) -> bool:
    return bool(await stack.client.state(evaluation_id))


def _jsonl(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _results(path: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["id"]: row["outcome"] for row in rows}


async def test_a_batch_as_expected_is_exit_0(stack: Stack, tmp_path: Path) -> None:
    await _serve(stack)
    rows: list[dict[str, Any]] = [
        {"id": f"n{number}", "code": f"print({number})", "expect": "succeeded"} for number in range(20)
    ]
    rows.append({"id": "bad", "code": "1 / 0", "expect": "failed"})
    rows.append({"id": "odd", "code": "pass", "timeout": -1, "expect": "rejected"})
    out = tmp_path / "out.jsonl"

    done = await execute(stack.environ, "batch", _jsonl(tmp_path / "in.jsonl", *rows), "--out", str(out))

    assert done.code == exits.OK, done.stderr
    assert "22 of 22: 1 failed, 1 rejected, 20 succeeded; 0 not as expected" in done.stdout
    assert _results(out) == {row["id"]: row["expect"] for row in rows}


async def test_a_batch_reports_surprises_and_exits_1(stack: Stack, tmp_path: Path) -> None:
    await _serve(stack)
    file = _jsonl(tmp_path / "in.jsonl", {"id": "a", "code": "1 / 0", "expect": "succeeded"}, {"id": "b", "code": ""})
    out = str(tmp_path / "out.jsonl")

    plain = await execute(stack.environ, "batch", file, "--out", out)
    as_json = await execute(stack.environ, "batch", file, "--out", out, "--json")

    assert plain.code == as_json.code == exits.NOT_AS_HOPED
    assert "a: expected succeeded, is failed" in plain.stdout
    assert as_json.json["unexpected"] == [{"id": "a", "expected": "succeeded", "outcome": "failed"}]
    assert as_json.stderr == "", "no progress bar beside JSON"


async def test_ctrl_c_keeps_the_results_that_a_batch_has(stack: Stack, tmp_path: Path) -> None:
    await _serve(stack)
    out = tmp_path / "out.jsonl"
    endless = {"id": "endless", "code": "while True: pass", "timeout": 60}
    rows = [{"id": f"n{number}", "code": "pass"} for number in range(5)]
    process = await start(stack.environ, "batch", _jsonl(tmp_path / "in.jsonl", *rows, endless), "--out", str(out))
    await wait_until(lambda: out.exists() and len(out.read_text().splitlines()) == 5, "five results are written")

    interrupt(process)
    done = await end(process)
    await stack.client.cancel("endless")

    assert done.code == exits.INTERRUPTED
    assert "5 of 6" in done.stdout
    assert "Traceback" not in done.stderr
    assert set(_results(out).values()) == {"succeeded"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [("{", "not JSON"), ("[]", "not an object"), ('{"code": "", "expect": "fine"}', "'fine' is none of")],
)
async def test_a_bad_line_of_a_batch_is_named(stack: Stack, tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"code": "pass"}\n\n' + line + "\n")

    done = await execute(stack.environ, "batch", str(file), "--out", str(tmp_path / "out"))

    assert done.code == exits.USAGE
    assert "in.jsonl, line 3" in _one_line(done)
    assert reason in done.stderr


async def test_a_batch_says_why_a_row_was_rejected(stack: Stack, tmp_path: Path) -> None:
    await _serve(stack)
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": "odd", "code": "pass", "class": "tpu"}\n{"code": "pass"}\n')

    done = await execute(stack.environ, "batch", str(file), "--out", str(tmp_path / "out"))

    assert "odd: rejected: class: " in done.stdout


async def test_lanes_shows_demand_and_workers(stack: Stack) -> None:
    await _serve(stack)

    as_json = await execute(stack.environ, "lanes", "--json")
    plain = await execute(stack.environ, "lanes")

    rows = {row["lane"]: row for row in as_json.json}
    assert rows["warm.python"] == {
        "lane": "warm.python", "lag": 0, "pending": 0, "waiting": 0, "later": 0, "workers": 1, "busy": 0,
        "oldest_ms": 0,
    }  # fmt: skip
    assert rows["job.cpu"]["workers"] == 0
    assert "warm.python" in plain.stdout


async def test_config_hides_the_password(stack: Stack) -> None:
    environ = {**stack.environ, "REDIS_URL": "redis://user:s3cret@example.com:6379/0", "COLUMNS": "200"}

    plain = await execute(environ, "config")
    as_json = await execute(environ, "config", "--json")

    assert plain.code == as_json.code == exits.OK
    assert "s3cret" not in plain.stdout + as_json.stdout
    rows = {row["variable"]: row for row in as_json.json}
    assert list(rows) == [row[0] for row in described(Settings())]
    assert rows["REDIS_URL"]["value"] == "redis://user:***@example.com:6379/0"
    assert (rows["EXECUTOR_SLOTS"]["value"], rows["EXECUTOR_SLOTS"]["default"]) == (2, 0)


async def test_redis_sends_one_command(stack: Stack) -> None:
    await _serve(stack)

    added = await execute(stack.environ, "redis", "XADD", stack.cell.keys.requests(), "*", "code", "print(6*7)")
    result = await stack.result(added.stdout.strip())
    wrong = await execute(stack.environ, "redis", "NOSUCH")
    listed = await execute(stack.environ, "redis", "--json", "HMGET", "nothing", "a", "b")

    assert (added.code, result["stdout"]) == (exits.OK, "42\n")
    assert wrong.code == exits.USAGE
    assert "unknown command" in wrong.stderr
    assert listed.json == [None, None]


async def test_redis_without_words_is_a_prompt(stack: Stack) -> None:
    done = await execute(stack.environ, "redis", stdin=b"PING\nNOSUCH\n\nexit\n")

    assert (done.code, done.stdout) == (exits.OK, "PONG\n")
    assert "unknown command" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
async def test_help_has_an_example(stack: Stack, command: str) -> None:
    done = await execute({**stack.environ, "COLUMNS": "120"}, command, "--help")

    assert done.code == exits.OK
    assert re.search(rf"Example:.*executor {command}", done.stdout), done.stdout


async def test_no_server_is_exit_3_and_one_line(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "REDIS_URL": f"unix://{tmp_path}/nothing.sock"}
    file = _jsonl(tmp_path / "in.jsonl", {"code": "pass"})

    for words in (
        ("submit", "-c", "pass"),
        ("result", "x"),
        ("cancel", "x"),
        ("lanes",),
        ("redis", "PING"),
        ("batch", file, "--json", "--out", str(tmp_path / "out")),
    ):
        done = await execute(environ, *words)
        assert done.code == exits.SERVER_AWAY, (words, done)
        assert "the server cannot answer" in _one_line(done)


async def test_a_wrong_password_is_exit_4(stack: Stack) -> None:
    url = re.sub(r"//:[^@]*@", "//:wrong@", stack.environ["REDIS_URL"])

    done = await execute({**stack.environ, "REDIS_URL": url}, "lanes")

    assert done.code == exits.NOT_ALLOWED
    assert "REDIS_URL" in _one_line(done)


async def test_without_any_address_it_says_how_to_get_one(stack: Stack, tmp_path: Path) -> None:
    environ = {name: value for name, value in stack.environ.items() if name != "REDIS_URL"}

    done = await execute(environ, "submit", "-c", "pass", cwd=tmp_path)

    assert done.code == exits.USAGE
    assert "executor up" in _one_line(done)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("submit", "nothing.py"), "nothing.py"),
        (("submit", "-c", "pass", "--timeout", "-1"), "timeout"),
        (("submit", "-c", "pass", "--id", "a/b"), "id"),
        (("submit", "-c", "pass", "nothing.py"), "only one"),
    ],
)
async def test_a_bad_argument_is_exit_2_and_named(stack: Stack, words: tuple[str, ...], reason: str) -> None:
    done = await execute(stack.environ, *words)

    assert done.code == exits.USAGE
    assert reason in _one_line(done)


async def test_a_bad_setting_is_exit_2_and_named(stack: Stack) -> None:
    done = await execute({**stack.environ, "EXECUTOR_LEASE": "soon"}, "lanes")

    assert done.code == exits.USAGE
    assert "EXECUTOR_LEASE" in _one_line(done)
