"""Metrics: every one declared here once, with its unit and help; counted without a library, served by one.

Counting happens on hot paths and at start-up, so it is plain arithmetic on dictionaries; prometheus_client is
imported when /metrics is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter, gauge or histogram; its values by label values."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()
    values: dict[Labels, float] = field(default_factory=dict, compare=False)
    counts: dict[Labels, list[int]] = field(default_factory=dict, compare=False)

    def add(self, amount: float = 1.0, *labels: str) -> None:
        """Count up."""
        self.values[labels] = self.values.get(labels, 0.0) + amount

    def set(self, value: float, *labels: str) -> None:
        """Replace the value of a gauge."""
        self.values[labels] = value

    def observe(self, value: float, *labels: str) -> None:
        """Put one observation into its bucket."""
        counts = self.counts.get(labels)
        if counts is None:
            counts = self.counts[labels] = [0] * (len(self.buckets) + 1)
        index = 0
        for bound in self.buckets:
            if value <= bound:
                break
            index += 1
        counts[index] += 1
        self.add(value, *labels)


_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

REQUESTS = Metric(
    "executor_requests", "counter", "Requests taken from ingress, by what became of them.", ("tenant", "answer")
)
EVALUATIONS = Metric(
    "executor_evaluations", "counter", "Committed results of this process, by outcome.", ("lane", "outcome")
)
STALE_COMMITS = Metric(
    "executor_stale_commits", "counter", "Commits refused because the lease had passed on.", ("lane",)
)
LOST_LEASES = Metric("executor_lost_leases", "counter", "Leases lost while the evaluation ran.", ("lane",))
RESCUES = Metric("executor_rescues", "counter", "Expired leases, by what became of the entry.", ("lane", "answer"))
LAG_REPAIRS = Metric("executor_lag_repairs", "counter", "Times a nil lag was made exact again.", ("lane",))
SERVER_OUTAGES = Metric("executor_server_outages", "counter", "Times the server could not be used.", ("program",))
QUEUE_DEPTH = Metric("executor_queue_depth", "gauge", "Lag plus pending of a lane, entries.", ("lane",))
WAITING = Metric("executor_waiting", "gauge", "Admitted evaluations that wait before a lane.", ("lane",))
QUEUE_SECONDS = Metric("executor_queue_seconds", "histogram", "Admission to claim, seconds.", ("lane",), _SECONDS)
RUN_SECONDS = Metric("executor_run_seconds", "histogram", "Start to end of an attempt, seconds.", ("lane",), _SECONDS)
SLOTS_BUSY = Metric("executor_slots_busy", "gauge", "Evaluations running in this worker.", ("lane",))
STARTUP_SECONDS = Metric(
    "executor_startup_seconds", "gauge", "Process start to a phase of readiness, seconds.", ("phase",)
)
KEEPERS_REPLACED = Metric("executor_keepers_replaced", "counter", "Keeper processes that ended and were replaced.")
SPANS_DROPPED = Metric("executor_spans_dropped", "counter", "Spans that the exporter could not take in time.")

METRICS: Final = (
    REQUESTS,
    EVALUATIONS,
    STALE_COMMITS,
    LOST_LEASES,
    RESCUES,
    LAG_REPAIRS,
    SERVER_OUTAGES,
    QUEUE_DEPTH,
    WAITING,
    QUEUE_SECONDS,
    RUN_SECONDS,
    SLOTS_BUSY,
    STARTUP_SECONDS,
    KEEPERS_REPLACED,
    SPANS_DROPPED,
)


def render() -> bytes:
    """All metrics in the Prometheus text format."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 only a scrape needs it

    registry = CollectorRegistry()
    registry.register(_Collector())
    return generate_latest(registry)


class _Collector:
    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for metric in METRICS:
            if metric.kind == "histogram":
                family: Any = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
                for labels, counts in metric.counts.items():
                    family.add_metric(labels, _cumulative(metric, counts), metric.values[labels])
            else:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = kind(metric.name, metric.help, labels=metric.labels)
                for labels, value in metric.values.items():
                    family.add_metric(labels, value)
            yield family


def _cumulative(metric: Metric, counts: list[int]) -> list[tuple[str, int]]:
    total, rows = 0, []
    for bound, count in zip((*(str(bound) for bound in metric.buckets), "+Inf"), counts, strict=True):
        total += count
        rows.append((bound, total))
    return rows
