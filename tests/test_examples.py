"""Every example runs and prints what it promises."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.support.stack import Stack

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTED = {
    "quickstart.py": "succeeded 42\nstep 0\nstep 1\nstep 2\n",
    "sync_client.py": "squares 0 1 4 9\nfailed\ncancelled\n",
}


@pytest.mark.parametrize("name", PRINTED)
async def test_an_example_prints_what_it_promises(stack: Stack, name: str) -> None:
    await stack.dispatcher()
    await stack.worker()
    pipe = asyncio.subprocess.PIPE

    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / name), env=stack.environ, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)

    assert (process.returncode, err.decode()) == (0, "")
    assert out.decode() == PRINTED[name]


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*PRINTED, "make_batch.py"}


def test_the_batch_is_what_its_maker_writes(tmp_path: Path) -> None:
    import subprocess

    maker = tmp_path / "make_batch.py"
    maker.write_text((EXAMPLES / "make_batch.py").read_text())
    subprocess.run([sys.executable, str(maker)], check=True)

    written = (tmp_path / "batch.jsonl").read_text()
    assert written == (EXAMPLES / "batch.jsonl").read_text()
    assert all(json.loads(line)["expect"] for line in written.splitlines())
