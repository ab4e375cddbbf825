"""What a soak found: a line for each minute while it runs, then the verdict on every series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from bench.soak.flat import Trend, allowed, trend
from bench.soak.load import Minute, OpenLoop
from bench.soak.sample import UNITS, Sample
from bench.table import number, percentile, render

PERCENTS = (50.0, 99.0, 99.9)
SHOWN = ("server memory used", "server RSS", "dispatcher RSS", "worker RSS", "zygote RSS", "keepers RSS", "client RSS")
COLUMNS = ["minute", "per s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "open"]
COLUMNS += ["server MiB", "server RSS", "dispatcher", "worker", "zygote", "keepers", "client"]
COLUMNS += ["keys", "entries", "descriptors"]
WIDTHS = [len(title) for title in COLUMNS]


@dataclass
class Findings:
    """Everything that a run found.

    Attributes:
        server: its name, version and allocator.
        capacity: evaluations per second of the closed loop.
        rate: arrivals per second.
        settled: seconds from the start of the load until series are judged.
        minutes: latencies by minute.
        samples: seconds since the start of the load and what was held then.
        before: what was held before the load, when nothing was kept any more.
        after: the same after it.
        kept: keys that were not there before and did not go.
        faults: evaluations gone wrong, by what.
    """

    server: str
    capacity: float
    rate: float
    settled: float
    before: Sample
    minutes: list[Minute] = field(default_factory=list)
    samples: list[tuple[float, Sample]] = field(default_factory=list)
    after: Sample = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def trends(self) -> dict[str, Trend]:
        """Every series from when retention is full."""
        judged = [(at, sample) for at, sample in self.samples if at >= self.settled]
        return {name: trend([(at, sample[name]) for at, sample in judged], unit) for name, unit in UNITS.items()}

    def not_back(self) -> list[str]:
        """Series that are above where they were before the load; what a program's allocator keeps is no loss."""
        returning = [name for name in UNITS if not name.endswith("RSS")]
        return [
            name for name in returning if self.after[name] - self.before[name] > allowed(self.before[name], UNITS[name])
        ]

    def troubles(self) -> list[str]:
        """Why it is not flat, in words; nothing if it is."""
        grown = [f"{name} grew" for name, found in self.trends().items() if not found.flat]
        stayed = [f"{name} did not return" for name in self.not_back()]
        stayed += [f"{len(self.kept)} keys stayed: {', '.join(self.kept[:5])}"] if self.kept else []
        return grown + stayed + [f"{count} {what}" for what, count in self.faults.items() if count]

    def document(self) -> dict[str, object]:
        """Plain values."""
        return {
            "bench": "soak",
            "server": self.server,
            "capacity": self.capacity,
            "rate": self.rate,
            "minutes": [latencies(minute) for minute in self.minutes],
            "total": latencies(self.total()),
            "trends": {name: {**asdict(found), "flat": found.flat} for name, found in self.trends().items()},
            "before": self.before,
            "after": self.after,
            "troubles": self.troubles(),
        }

    def total(self) -> Minute:
        """All minutes as one."""
        whole = Minute()
        for minute in self.minutes:
            whole.latencies.extend(minute.latencies)
            whole.late.extend(minute.late)
        return whole

    def text(self) -> str:
        """Tables for a person."""
        whole = latencies(self.total())
        trends = self.trends()
        rows = [
            [
                name,
                UNITS[name],
                number(found.first),
                number(found.last),
                _signed(found.last - found.first),
                number(found.allowed),
                _signed(found.hourly),
                "flat" if found.flat else "GROWS",
                number(self.before[name]),
                number(self.after[name]),
            ]
            for name, found in trends.items()
        ]
        header = [
            "held",
            "unit",
            "first third",
            "last third",
            "growth",
            "allowed",
            "slope an hour",
            "",
            "before",
            "after",
        ]
        figures = ", ".join(f"{name} {number(value)} ms" for name, value in whole.items())
        parts = [
            f"{len(self.total().latencies):,} evaluations at {self.rate:.0f} per s, {self.rate / self.capacity:.0%} of "
            f"a capacity of {self.capacity:.0f} per s, from the scheduled arrival to the result: {figures}",
            render(header, rows),
        ]
        parts.append(f"on {self.server}")
        troubles = self.troubles()
        parts.append("verdict: flat" if not troubles else "verdict: NOT flat: " + "; ".join(troubles))
        return "\n\n".join(parts)


def latencies(minute: Minute) -> dict[str, float]:
    """Percentiles of what was due in a minute, ms, and how late the sender was."""
    if not minute.latencies:
        return {}
    found = {f"p{percent:g}": percentile(minute.latencies, percent) for percent in PERCENTS}
    return {**found, "max": max(minute.latencies), "sender late p99": percentile(minute.late, 99)}


def heading() -> str:
    """Titles of the lines of minutes."""
    return "  ".join(COLUMNS)


def line(index: int, load: OpenLoop, minute: Minute, samples: Sequence[Sample]) -> str:
    """One minute: latencies, and means of what was held."""
    found = latencies(minute)
    held = {name: sum(sample[name] for sample in samples) / len(samples) for name in UNITS}
    cells = [str(index + 1), number(len(minute.late) / 60)]
    cells += [number(found.get(name, 0)) for name in ("p50", "p99", "p99.9", "max")]
    cells += [str(load.outstanding), *(f"{held[name]:.1f}" for name in SHOWN)]
    cells += [f"{held[name]:,.0f}" for name in ("keys", "entries in streams", "descriptors")]
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{number(abs(value))}"
