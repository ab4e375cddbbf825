"""A result as fields: what is written is read back; anything else is CorruptEntry."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.errors import CorruptEntry
from executor.outcome import Outcome
from executor.result import EvaluationResult

counts = st.integers(0, 2**63)
durations = st.integers(0, 10**9).map(lambda micros: micros / 1000)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
results = st.builds(
    EvaluationResult,
    id=st.text(min_size=1),
    outcome=st.sampled_from(Outcome),
    tenant=st.text(min_size=1),
    exit_code=st.none() | st.integers(-64, 255),
    stdout=st.text(),
    stderr=st.text(),
    error=st.text(),
    field=st.text(),
    duration_ms=durations,
    cpu_ms=durations,
    max_rss=counts,
    queued_ms=durations,
    attempt=counts,
    worker=st.text(),
    truncated=st.sampled_from([(), ("stdout",), ("stderr",), ("stdout", "stderr")]),
    stdout_bytes=counts,
    stderr_bytes=counts,
    metadata=st.dictionaries(st.text(), json_values, max_size=3),
    traceparent=st.text(),
    finished_at=counts,
)


def as_stored(flat: list[str | int | float]) -> dict[bytes, bytes]:
    """Fields as the server gives them back."""
    words = [str(word).encode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


@given(results)
def test_a_result_comes_back_as_it_was(result: EvaluationResult) -> None:
    assert EvaluationResult.from_fields(as_stored(result.to_fields())) == result


@given(st.dictionaries(st.binary() | st.sampled_from([b"id", b"outcome", b"metadata", b"attempt"]), st.binary()))
def test_fields_are_a_result_or_corrupt(raw: dict[bytes, bytes]) -> None:
    with suppress(CorruptEntry):
        assert EvaluationResult.from_fields(raw).outcome in Outcome


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({b"outcome": b"splendid"}, id="an outcome that is none"),
        pytest.param({b"attempt": b"first"}, id="a count that is none"),
        pytest.param({b"duration_ms": b"long"}, id="a duration that is none"),
        pytest.param({b"metadata": b"{"}, id="metadata that is not JSON"),
        pytest.param({b"metadata": b"[" * 100_000}, id="metadata without a bottom"),
        pytest.param({b"\xff": b""}, id="a name that is not UTF-8"),
    ],
)
def test_fields_that_do_not_parse_are_corrupt(change: dict[bytes, bytes]) -> None:
    with pytest.raises(CorruptEntry, match="not a result"):
        EvaluationResult.from_fields({b"id": b"a", b"outcome": b"failed"} | change)


def test_a_missing_outcome_is_corrupt() -> None:
    with pytest.raises(CorruptEntry):
        EvaluationResult.from_fields({b"id": b"a"})


def test_fields_of_a_newer_version_are_ignored() -> None:
    found = EvaluationResult.from_fields({b"id": b"a", b"outcome": b"failed", b"mood": b"good"})

    assert found == EvaluationResult("a", Outcome.FAILED)


@pytest.mark.parametrize("name", ["id", "outcome", "tenant", "exit_code", "stdout", "stderr"])
def test_what_every_reader_looks_for_is_always_there(name: str) -> None:
    assert name in EvaluationResult("a", Outcome.REJECTED).to_fields()[::2]


def test_defaults_are_left_out() -> None:
    names: list[Any] = EvaluationResult("a", Outcome.REJECTED).to_fields()[::2]

    assert names == ["id", "outcome", "tenant", "exit_code", "stdout", "stderr"]
