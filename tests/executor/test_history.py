"""The history of attempts, as this version and those before it note it."""

from __future__ import annotations

import json

import pytest

from executor import PastAttempt
from executor.streams.history import read_history

ONE = PastAttempt("a", 1, 1000, "its lease ran out", "x\ny")
TWO = PastAttempt("b", 2, 2000, "handed back", "")
LINES = [json.dumps(one.to_json()) for one in (ONE, TWO)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("", (), id="nothing"),
        pytest.param("\n".join(LINES), (ONE, TWO), id="this version"),
        pytest.param("a,b", (PastAttempt("a"), PastAttempt("b")), id="the one before"),
        pytest.param(f"{LINES[0]},b,c", (ONE, PastAttempt("b"), PastAttempt("c")), id="this one, then the one before"),
        pytest.param(f"a\n{LINES[1]}", (PastAttempt("a"), TWO), id="the one before, then this one"),
        pytest.param(f"{LINES[0]},b\n{LINES[1]}", (ONE, PastAttempt("b"), TWO), id="back and forth"),
        pytest.param('{"owner": 5, "at": "x", "more": []}', (PastAttempt(""),), id="other types"),
        pytest.param('{"owner": ', (PastAttempt('{"owner": '),), id="half a line"),
        pytest.param("[1]", (PastAttempt("[1]"),), id="no object"),
    ],
)
def test_every_version_is_read(text: str, found: tuple[PastAttempt, ...]) -> None:
    assert read_history(text) == found
