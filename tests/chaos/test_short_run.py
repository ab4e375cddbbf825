"""A short run with the fast faults: the whole driver, and the promises, in every `make test`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from tests.chaos.cell import ROOT
from tests.chaos.checker import RULES
from tests.chaos.faults import FAST

SEED = 20
EVALUATIONS = 150


async def chaos(*words: str) -> tuple[int, dict[str, Any]]:
    """Run it as a person would; exit code and report."""
    environ = {"PATH": os.environ["PATH"]}  # noqa: TID251
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos", *words, "--json", cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out) if out else {}


@pytest.mark.timeout(180)
async def test_promises_hold_under_the_fast_faults() -> None:
    faults = ",".join(FAST)
    size = ("--evaluations", str(EVALUATIONS), "--every", "18")

    code, report = await chaos("--seed", str(SEED), "--faults", faults, *size, "--no-autoscaler")

    assert report["violations"] == []
    assert code == 0
    assert set(report["faults"]) == set(FAST)
    assert report["results"] >= EVALUATIONS - 10  # some share a key


async def test_a_fault_that_is_not_known_is_named() -> None:
    code, _ = await chaos("--faults", "earthquake")

    assert code == 2
    assert RULES
