"""What every benchmark shares: percentiles, the spread over rounds, an aligned table, the same figures as JSON."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure measured once per round: the median and what it varied between."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Summarize the rounds; there must be at least one."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    def __str__(self) -> str:
        if self.low == self.high:
            return number(self.median)
        return f"{number(self.median)} ({number(self.low)}..{number(self.high)})"


def percentile(samples: Iterable[float], percent: float) -> float:
    """Return the nearest-rank percentile: always a value that was really measured."""
    ordered = sorted(samples)
    rank = math.ceil(round(percent * len(ordered) / 100, 6))  # 0.999 * 1000 is a little more than 999
    return ordered[max(0, rank - 1)]


def number(value: float) -> str:
    """Write a figure with three significant digits, whole from 100 on, thousands separated."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def render(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table: first column to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([row(header), rule, *(row(cells) for cells in rows)])


def dump(document: object) -> str:
    """Write a result as JSON for a person and for a diff."""
    return json.dumps(document, indent=2, ensure_ascii=False)
