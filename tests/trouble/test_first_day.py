"""What a person gets wrong on the first day: one line that says what to do, and nothing of theirs is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.batch import read_rows
from executor import InvalidField
from executor.client import Client
from executor.errors import Misconfigured
from tests.support.stack import Stack


def run(*words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *words]
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=50, check=False)


def test_a_batch_without_a_server_leaves_the_results_file_alone(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"code": "pass"}\n')
    (tmp_path / "out.jsonl").write_text("precious\n")

    done = run("batch", "in.jsonl", "--out", "out.jsonl", cwd=tmp_path, REDIS_URL="redis://127.0.0.1:1")

    assert done.returncode == 3
    assert (tmp_path / "out.jsonl").read_text() == "precious\n"


def test_a_batch_is_not_written_over_itself(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"code": "pass"}\n')

    done = run("batch", "in.jsonl", "--out", "in.jsonl", cwd=tmp_path, REDIS_URL="redis://127.0.0.1:1")

    assert (done.returncode, "--out" in done.stderr) == (2, True)
    assert (tmp_path / "in.jsonl").read_text() == '{"code": "pass"}\n'


def test_an_id_stands_once_in_a_batch(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": "a", "code": "1"}\n{"id": "a", "code": "2"}\n')
    with pytest.raises(Misconfigured, match="line 2: id: 'a' stands on line 1"):
        read_rows(tmp_path / "in.jsonl")


def test_only_line_feeds_end_the_lines_of_a_batch(tmp_path: Path) -> None:
    """U+2028 may stand in a JSON string, and json.dumps(ensure_ascii=False) leaves it there."""
    line = json.dumps({"code": "print('\u2028')"}, ensure_ascii=False)
    (tmp_path / "in.jsonl").write_text(f"{line}\n", "utf-8")
    assert read_rows(tmp_path / "in.jsonl")[0].request == {"code": "print('\u2028')"}


def test_up_with_refused_credentials_says_so_in_one_line(stack: Stack, tmp_path: Path) -> None:
    wrong = stack.cell.url.replace(stack.cell.url.split("@")[0], "unix://:wrong")

    done = run("up", cwd=tmp_path, REDIS_URL=wrong, EXECUTOR_HEALTH_PORT="0")

    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "refuses these credentials" in done.stderr


@pytest.mark.parametrize(
    ("words", "environ", "named"),
    [
        (("worker",), {"EXECUTOR_SCRATCH_DIR": "/nope"}, "EXECUTOR_SCRATCH_DIR"),
        (("dispatcher",), {"EXECUTOR_TRACES": "/nope/x"}, "EXECUTOR_TRACES"),
        (("up", "--data", "/dev/null/x"), {"REDIS_URL": ""}, "--data"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(
    words: tuple[str, ...], environ: dict[str, str], named: str, tmp_path: Path
) -> None:
    done = run(*words, cwd=tmp_path, **{"REDIS_URL": "redis://127.0.0.1:1", **environ})
    assert (done.returncode, named in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_a_tenant_that_cannot_be_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidField, match="tenant"):
        Client("redis://127.0.0.1:1", tenant="a b")


async def test_a_lane_is_viewed_while_its_last_entry_is_acknowledged(stack: Stack) -> None:
    """The group says one is pending, and by the next command none is: that is an age of 0, not an error."""
    lane = stack.cell.keys.lane("warm.python")
    await stack.redis.call("XGROUP", "CREATE", lane, "workers", "0", "MKSTREAM")
    group = {"pending": 1, "lag": 0, "last-delivered-id": b"0-0"}
    assert await stack.upkeep._oldest(lane, group) == 0
