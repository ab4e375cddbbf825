"""The command line as a person runs it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.stdout)


async def start(environ: Mapping[str, str], *words: str, cwd: Path | None = None) -> asyncio.subprocess.Process:
    """Start `executor WORDS` with nothing on its standard input."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", *words, env=dict(environ), cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe
    )


async def end(process: asyncio.subprocess.Process, stdin: bytes | None = None, seconds: float = 40) -> Done:
    """Wait for its end."""
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(stdin)
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(f"it does not end: {out.decode()} {err.decode()}") from None
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def execute(environ: Mapping[str, str], *words: str, stdin: bytes | None = None, cwd: Path | None = None) -> Done:
    """Run a command to its end."""
    return await end(await start(environ, *words, cwd=cwd), stdin)


def interrupt(process: asyncio.subprocess.Process) -> None:
    """Ctrl-C."""
    process.send_signal(signal.SIGINT)
