"""`executor up`: everything on one machine, from nothing and back to nothing."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli import exits
from tests.support.command import end, execute, interrupt, start
from tests.support.stack import process_exists
from tests.support.wait import wait_until
from worker.kernel.tree import descendants

pytestmark = pytest.mark.timeout(120)


class Folder:
    """A working folder, with a folder for temporary files that must be empty in the end.

    Attributes:
        here: where the commands run.
        environ: their variables.
    """

    def __init__(self, path: Path) -> None:
        self.here = path / "here"
        self.temporary = path / "tmp"
        for folder in (self.here, self.temporary):
            folder.mkdir()
        self.environ = {
            "PATH": os.environ["PATH"],  # noqa: TID251
            "TMPDIR": str(self.temporary),
            "COLUMNS": "200",
            "EXECUTOR_HEALTH_HOST": "127.0.0.1",
        }
        self.started: list[asyncio.subprocess.Process] = []
        self.seen: set[int] = set()

    async def up(self, *words: str) -> asyncio.subprocess.Process:
        """Start `executor up`."""
        process = await start(self.environ, "up", *words, cwd=self.here)
        self.started.append(process)
        return process

    async def reads(self, process: asyncio.subprocess.Process, text: str) -> str:
        """Lines on stderr up to one that holds the text."""
        assert process.stderr is not None
        lines = []
        async with asyncio.timeout(60):
            while line := (await process.stderr.readline()).decode():
                lines.append(line)
                self.seen.update(descendants(process.pid))
                if text in line:
                    return "".join(lines)
        raise AssertionError(f"no {text!r} in {''.join(lines)}")


@pytest.fixture
async def folder() -> AsyncIterator[Folder]:
    """Not pytest's own: the path of a unix socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="up-") as path:
        made = Folder(Path(path))
        yield made
        await _nothing_is_left(made)


async def _nothing_is_left(made: Folder) -> None:
    for process in made.started:
        if process.returncode is None:
            interrupt(process)
            await end(process)
    await wait_until(lambda: not [pid for pid in made.seen if process_exists(pid)], "no process is left", 5)
    assert list(made.temporary.iterdir()) == []
    assert not (made.here / ".executor").exists()


async def test_the_demo_goes_from_zero_and_back_to_zero(folder: Folder) -> None:
    process = await folder.up("--demo")

    shown = await folder.reads(process, "back to zero")
    interrupt(process)
    done = await end(process)

    assert "warm-python 0 ↑ 1" in shown
    assert "warm-python 1 ↓ 0" in shown
    assert "0 not as expected" in shown
    assert "Traceback" not in shown + done.stderr
    assert done.code == exits.OK


async def test_another_terminal_in_the_folder_finds_the_server(folder: Folder) -> None:
    process = await folder.up()
    await folder.reads(process, "Ctrl-C here")
    below = folder.here / "below"
    below.mkdir()

    done = await execute(folder.environ, "submit", "-c", "print(6*7)", cwd=below)

    assert (done.code, done.stdout) == (exits.OK, "42\n")
    assert (folder.here / ".executor" / "url").stat().st_mode & 0o077 == 0, "the address holds the password"
    folder.seen.update(descendants(process.pid))


async def test_scaling_as_json_is_one_object_a_line(folder: Folder) -> None:
    process = await folder.up("--json")
    await folder.reads(process, "Ctrl-C here")
    await execute(folder.environ, "submit", "-c", "pass", cwd=folder.here)

    interrupt(process)
    done = await end(process)

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (events[0]["name"], events[0]["before"], events[0]["after"]) == ("warm-python", 0, 1)


@pytest.mark.parametrize("seconds", [0.2, 0.4, 0.6, 0.8, 1.0])
async def test_ctrl_c_at_the_start_leaves_nothing(folder: Folder, seconds: float) -> None:
    process = await folder.up()
    await asyncio.sleep(seconds)  # not a wait for something: the moment is the test

    folder.seen.update(descendants(process.pid))
    interrupt(process)
    done = await end(process)

    assert done.code in (exits.OK, exits.INTERRUPTED, -2), done
    assert "never retrieved" not in done.stderr


async def test_ctrl_c_while_evaluations_run_ends_them(folder: Folder) -> None:
    folder.environ["EXECUTOR_GRACE"] = "1"
    process = await folder.up()
    await folder.reads(process, "Ctrl-C here")
    code = "print('on')\nwhile True: pass"
    submit = await start(folder.environ, "submit", "--stream", "-c", code, "--timeout", "60", cwd=folder.here)
    assert submit.stdout is not None
    assert await submit.stdout.readline() == b"on\n"

    folder.seen.update(descendants(process.pid))
    interrupt(submit)
    await end(submit)
    interrupt(process)
    done = await end(process)

    assert done.code == exits.OK
    assert "Traceback" not in done.stderr


async def test_a_second_one_in_the_same_folder_is_refused(folder: Folder) -> None:
    first = await folder.up()
    await folder.reads(first, "Ctrl-C here")

    second = await end(await folder.up())

    assert second.code == exits.USAGE
    assert f"`executor up` (process {first.pid}) runs in this folder already" in second.stderr
    assert (await execute(folder.environ, "redis", "PING", cwd=folder.here)).stdout == "PONG\n"


async def test_data_is_kept_from_one_run_to_the_next(folder: Folder) -> None:
    for run in (1, 2):
        process = await folder.up("--data", "kept")
        await folder.reads(process, "Ctrl-C here")
        if run == 1:
            await execute(folder.environ, "submit", "-c", "print('kept')", "--id", "old", cwd=folder.here)
        result = await execute(folder.environ, "result", "old", cwd=folder.here)
        folder.seen.update(descendants(process.pid))
        interrupt(process)
        assert (await end(process)).code == exits.OK

        assert result.stdout == "kept\n"

    assert list((folder.here / "kept").iterdir())


async def test_data_beside_a_server_of_ones_own_is_refused(folder: Folder) -> None:
    folder.environ["REDIS_URL"] = "redis://example.com"

    done = await execute(folder.environ, "up", "--data", "kept", cwd=folder.here)

    assert done.code == exits.USAGE
    assert "--data" in done.stderr
