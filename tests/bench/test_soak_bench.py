"""The rule by which the soak calls a series flat."""

from __future__ import annotations

import math

import pytest

from bench.soak.flat import trend
from bench.soak.load import Minute
from bench.soak.report import latencies

SECONDS = range(0, 540, 2)


@pytest.mark.parametrize(
    ("values", "unit", "is_flat"),
    [
        pytest.param([100.0 for _ in SECONDS], "MiB", True, id="constant"),
        pytest.param([100 + 3 * math.sin(at / 7) for at in SECONDS], "MiB", True, id="a wave"),
        pytest.param([100 + (400 if at % 90 == 0 else 0) for at in SECONDS], "MiB", True, id="spikes"),
        pytest.param([100 - at / 10 for at in SECONDS], "MiB", True, id="shrinking"),
        pytest.param([10 + 0.9 * at / 540 for at in SECONDS], "MiB", True, id="within the noise of a small value"),
        pytest.param([100 + at / 50 for at in SECONDS], "MiB", False, id="a leak"),
        pytest.param([63 + at / 60 for at in SECONDS], "descriptors", False, id="a descriptor a minute"),
        pytest.param([100 + (0 if at < 360 else 10) for at in SECONDS], "MiB", False, id="a late step"),
    ],
)
def test_a_series_is_flat_if_its_last_third_is_no_higher_than_its_first(
    values: list[float], unit: str, is_flat: bool
) -> None:
    assert trend(list(zip(map(float, SECONDS), values, strict=True)), unit).flat is is_flat


def test_the_slope_is_per_hour() -> None:
    series = [(float(at), 5 + at * 0.01) for at in SECONDS]

    assert trend(series, "MiB").hourly == pytest.approx(36)


def test_latencies_of_a_minute_are_values_that_were_measured() -> None:
    minute = Minute()
    minute.latencies.extend(float(number) for number in range(1, 1001))
    minute.late.append(0.5)

    assert latencies(minute) == {"p50": 500, "p99": 990, "p99.9": 999, "max": 1000, "sender late p99": 0.5}
    assert latencies(Minute()) == {}
