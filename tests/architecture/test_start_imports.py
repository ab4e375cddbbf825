"""A worker starts in the time its imports take: what it does not need to claim work, it does not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pydantic", "typer", "rich", "prometheus_client", "opentelemetry", "yaml", "dispatcher", "keda", "cli")


@pytest.mark.parametrize("module", ["worker.__main__", "worker.service"])
def test_a_worker_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) & set(HEAVY) == set()


def test_the_public_package_imports_nothing_until_asked() -> None:
    code = "import sys, executor; print(*[name for name in sys.modules if name.startswith('executor.')])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
