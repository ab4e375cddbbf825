"""Every script says what it takes and gives, and something calls it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from executor.streams.scripts import script

STREAMS = Path(__file__).parents[2] / "executor" / "streams"
SCRIPTS = sorted((STREAMS / "lua").glob("*.lua"))
LIBRARY = sorted((STREAMS / "lua" / "lib").glob("*.lua"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_begins_with_its_contract(path: Path) -> None:
    shebang, *lines = path.read_text().splitlines()
    head = []
    for line in lines:
        if not line.startswith("--"):
            break
        head.append(line)

    assert re.fullmatch(r"#!lua( flags=[a-z,-]+)?", shebang)
    for word in ("KEYS", "ARGV", "Returns"):
        assert any(line.startswith(f"-- {word}") for line in head), f"no line `-- {word}`"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_used(path: Path) -> None:
    sources = "".join(module.read_text() for module in STREAMS.glob("*.py"))

    assert re.search(rf'(script\(|run\(\s*[\w.]+,\s*)"{path.stem}"', sources)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_is_in_every_script(path: Path) -> None:
    assert all(path.read_text() in script(one.stem).source for one in SCRIPTS)
