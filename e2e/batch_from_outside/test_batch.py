"""A batch from outside the cluster, through port-forward: right, from zero and back.

The batch is the one of examples/, or the JSON lines that EXECUTOR_E2E_BATCH names (`code`, `expect`): HumanEval's
solutions, for one.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from e2e.support.installation import ROOT, Installation, wait_for
from tests.support.command import execute

BATCH = Path(os.environ.get("EXECUTOR_E2E_BATCH") or ROOT / "examples" / "batch.jsonl")

pytestmark = pytest.mark.timeout(600)


def test_a_batch_is_right_from_zero_and_back(installation: Installation, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in BATCH.read_text().splitlines() if line.strip()]
    out = tmp_path / "results.jsonl"
    with installation.redis_url("caller") as url:
        environ = {"PATH": os.environ["PATH"], "REDIS_URL": url}
        done = asyncio.run(execute(environ, "batch", str(BATCH), "--out", str(out), "--json"))
    print(f"\n{BATCH.name}: {done.stdout.strip()}")

    assert done.code == 0, done.stderr
    results = {row["id"]: row["outcome"] for row in map(json.loads, out.read_text().splitlines())}
    assert len(results) == len(lines)
    wait_for(lambda: installation.pool_pods() == [], "the pool is at zero again", 120)
