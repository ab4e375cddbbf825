"""The order of a run: one system at a time, a fresh worker for each turn, every round in another order.

What is timed is the same for all: the client's own clock, from the call that sends a job until its result is in hand
(round trip), and from waking a paused worker with a full queue until the last result is in hand (drain). A drain is
sized to last about `drain_seconds` for each system, so that a fast one is not judged by a blink.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.peers.peer import Peer
from bench.peers.server import Server
from bench.table import percentile

PAYLOADS = {"no-op": 0, "200 B": 200, "64 KB": 65536}
WARM_UP = 20
"""Jobs of each payload before anything counts."""
QUIET_SECONDS = 1.0
"""How long a worker has had nothing to do when it is weighed."""
DRAIN_JOBS = (50, 3000)
"""Fewest and most jobs of a drain."""
DRAIN_BYTES = 16 * 1024 * 1024
"""Most payload a drain queues."""

Figures = dict[str, list[float]]
"""A system's figures by name, one value for each round."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    n: int
    """Round trips of each payload in a round."""
    drain_seconds: float
    """About how long a drain lasts."""


class Run:
    """Carries a plan out, on systems whose drivers have been started."""

    def __init__(self, plan: Plan, server: Server, worker_core: int | None, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._server = server
        self._worker_core = worker_core
        self._say = say
        self._jobs: dict[tuple[str, str], int] = {}
        self.figures: dict[str, Figures] = defaultdict(lambda: defaultdict(list))

    def rounds(self, peers: Sequence[Peer]) -> None:
        """Give each system its turn in each round; nobody is always first."""
        for index in range(self._plan.rounds):
            shift = index % len(peers)
            order = [*peers[shift:], *peers[:shift]]
            self._say(f"round {index + 1} of {self._plan.rounds}: {', '.join(peer.name for peer in order)}")
            for peer in order:
                self._turn(peer)

    def _turn(self, peer: Peer) -> None:
        # A worker is started anew rather than frozen between turns: after some seconds without its clients' timeouts
        # being served, a thawed worker would first have to recover.
        peer.start(self._worker_core)
        usual = {label: statistics.median(peer.roundtrip(size, WARM_UP)[0]) / 1000 for label, size in PAYLOADS.items()}
        self._weigh(peer)
        for label, size in PAYLOADS.items():
            self._roundtrip(peer, label, size)
        for label, size in PAYLOADS.items():
            self._drain(peer, label, size, self._jobs.setdefault((peer.name, label), self._size(size, usual[label])))
        peer.stop()

    def _size(self, payload: int, usual: float) -> int:
        most = min(DRAIN_JOBS[1], DRAIN_BYTES // max(payload, 1))
        return max(DRAIN_JOBS[0], min(most, round(self._plan.drain_seconds / usual)))

    def _weigh(self, peer: Peer) -> None:
        time.sleep(QUIET_SECONDS)  # memory of an idle worker is what is weighed
        worker, helpers = peer.memory()
        figures = self.figures[peer.name]
        figures["idle worker"].append(worker / 2**20)
        if helpers:
            figures["idle helpers"].append(helpers / 2**20)

    def _roundtrip(self, peer: Peer, label: str, size: int) -> None:
        before = self._server.counters()
        taken, polls = peer.roundtrip(size, self._plan.n)
        spent = self._server.counters().since(before)
        figures = self.figures[peer.name]
        figures[f"round trip {label} p50"].append(percentile(taken, 50))
        figures[f"round trip {label} p99"].append(percentile(taken, 99))
        if size == 0:
            figures["calls alone"].append((spent.calls.total() - polls) / len(taken))
            figures["reads alone"].append((spent.reads - polls) / len(taken))

    def _drain(self, peer: Peer, label: str, size: int, jobs: int) -> None:
        peer.pause()
        before = self._server.counters()
        enqueued = peer.preload(size, jobs)
        drained, polls = peer.drain()
        spent = self._server.counters().since(before)
        peer.check()
        figures = self.figures[peer.name]
        figures[f"enqueue {label}"].append(jobs / enqueued)
        figures[f"drain {label}"].append(jobs / drained)
        if size == 0:
            figures["calls busy"].append((spent.calls.total() - polls) / jobs)
            figures["reads busy"].append((spent.reads - polls) / jobs)
