"""Percentiles are values that were measured, and the right ones."""

from __future__ import annotations

import pytest

from bench.table import percentile


@pytest.mark.parametrize(("percent", "rank"), [(0, 1), (50, 500), (99, 990), (99.9, 999), (99.95, 1000), (100, 1000)])
def test_a_percentile_is_the_nearest_rank(percent: float, rank: int) -> None:
    assert percentile(range(1000, 0, -1), percent) == rank
