"""Which server program the tests run: the embedded one, another one, and one that speaks TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from cli.embedded import binary

FETCHED = Path(__file__).parents[2] / ".servers"


@cache
def server_program() -> str:
    """The program that EXECUTOR_TEST_SERVER names, else the one that `executor up` starts."""
    return os.environ.get("EXECUTOR_TEST_SERVER", "") or binary()  # noqa: TID251


@cache
def version_of(program: str) -> str:
    """What it says of itself."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split(" sha=")[0].strip()


def with_tls() -> str:
    """A program that was built with TLS, which the embedded one was not; skips without one, but fails in CI."""
    there = [shutil.which(name) or "" for name in ("valkey-server", "redis-server")]
    fetched = [str(path) for path in sorted(FETCHED.glob("*/server"))]
    for program in (server_program(), *there, *fetched):
        if program and _speaks_tls(program):
            return program
    why = "no server that speaks TLS: fetch one with tests/servers redis-7.0, or name one in EXECUTOR_TEST_SERVER"
    if os.environ.get("CI"):  # noqa: TID251
        pytest.fail(why)
    pytest.skip(why)


@cache
def _speaks_tls(program: str) -> bool:
    """Whether it complains about what TLS needs, and not about TLS."""
    options = ["--port", "0", "--tls-port", "1"]
    done = subprocess.run([program, *options], capture_output=True, text=True, check=False, timeout=10)
    return "tls-cert-file" in done.stdout + done.stderr
