"""What a run found: a table of figures, a table of ratios, or both as one JSON document."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench.peers.peer import Peer
from bench.peers.rounds import PAYLOADS, Figures, Plan
from bench.table import Spread, render

LABELS = (
    {f"round trip {label} {rank}": f"round trip, {label}, {rank} [ms]" for label in PAYLOADS for rank in ("p50", "p99")}
    | {f"drain {label}": f"drain, {label} [jobs/s]" for label in PAYLOADS}
    | {f"enqueue {label}": f"enqueue one by one, {label} [jobs/s]" for label in PAYLOADS}
    | {
        "calls alone": "server calls per job, one at a time",
        "calls busy": "server calls per job, queue full",
        "reads alone": "server reads per job, one at a time",
        "reads busy": "server reads per job, queue full",
        "idle worker": "idle worker, PSS [MiB]",
        "idle helpers": "idle helpers, PSS [MiB]",
    }
)
"""Every figure, in the order of the report."""


class Report:
    """The figures of a run and how each system compares with the first."""

    def __init__(self, plan: Plan, conditions: Mapping[str, object], peers: Sequence[Peer]) -> None:
        self._plan = plan
        self._conditions = {**conditions, "python": platform.python_version()}
        self._peers = peers

    def document(self, figures: Mapping[str, Figures]) -> dict[str, object]:
        """Return everything, each round's values included."""
        return {
            "bench": "peers",
            "plan": asdict(self._plan),
            "conditions": self._conditions,
            "baseline": self._peers[0].name,
            "peers": {
                peer.name: {
                    "version": peer.version,
                    "settings": peer.settings,
                    "figures": {
                        name: {**asdict(Spread.of(values)), "rounds": values}
                        for name, values in figures[peer.name].items()
                    },
                    "ratios": {name: asdict(ratio) for name, ratio in self._ratios(figures, peer).items()},
                }
                for peer in self._peers
            },
        }

    def text(self, figures: Mapping[str, Figures]) -> str:
        """Return the two tables and what they were measured under."""
        baseline, *others = self._peers
        shown = [name for name in LABELS if any(name in figures[peer.name] for peer in self._peers)]
        measured = [
            [LABELS[name], *(self._cell(figures[peer.name].get(name, [])) for peer in self._peers)] for name in shown
        ]
        parts = [
            f"median (lowest..highest) of {self._plan.rounds} rounds, {self._plan.n} round trips each",
            render(["", *(peer.name for peer in self._peers)], measured),
        ]
        if others:
            ratios = [self._ratios(figures, peer) for peer in others]
            rows = [[LABELS[name], *(str(ratio[name]) if name in ratio else "-" for ratio in ratios)] for name in shown]
            parts += [
                f"divided by {baseline.name}, round by round",
                render(["", *(peer.name for peer in others)], rows),
            ]
        parts.append("\n".join(f"{peer.name}: {peer.version}; {peer.settings}" for peer in self._peers))
        parts.append(", ".join(f"{name} {value}" for name, value in self._conditions.items()))
        return "\n\n".join(parts)

    @staticmethod
    def _cell(values: Sequence[float]) -> str:
        return str(Spread.of(values)) if values else "-"

    def _ratios(self, figures: Mapping[str, Figures], peer: Peer) -> dict[str, Spread]:
        """Divide within each round, where both saw the same neighbours, then summarize."""
        base = figures[self._peers[0].name]
        return {
            name: Spread.of(own / other for own, other in zip(values, base[name], strict=True))
            for name, values in figures[peer.name].items()
            if name in base
        }
