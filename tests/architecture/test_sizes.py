"""A file that grows past a screenful of screens wants to be two."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("executor", "dispatcher", "worker", "keda", "k8s", "cli", "e2e", "bench")
LARGEST = {**dict.fromkeys(SOURCES, 350), "tests": 500}


@pytest.mark.parametrize("folder", LARGEST)
def test_no_file_is_too_long(folder: str) -> None:
    lengths = {str(path.relative_to(ROOT)): _lines(path) for path in (ROOT / folder).rglob("*.py")}

    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > LARGEST[folder]} == {}


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())
