"""The table of hops in ARCHITECTURE.md names code that is there, in the order in which it runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (\d+) \| `([\w/.]+)`(?: `(\w+)`)?")


def rows() -> list[tuple[int, str, str]]:
    found = []
    for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines():
        if match := ROW.match(line):
            found.append((int(match[1]), match[2], match[3] or ""))
    return found


def test_there_are_eleven_hops_in_order() -> None:
    assert [number for number, _, _ in rows()] == list(range(1, 12))


def test_every_hop_names_a_function_or_script_that_exists() -> None:
    for _, path, name in rows():
        source = (ROOT / path).read_text()
        if path.endswith(".lua"):
            assert source.startswith("#!lua")
            continue
        names = {
            node.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in names, f"{path} has no {name}"
