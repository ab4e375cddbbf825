"""Faults by name: each a small function that strikes a cell once and returns what it did when it is over."""

from __future__ import annotations

from tests.chaos.faults import network, processes, programs, servers
from tests.chaos.faults.fault import FAULTS, Fault

__all__ = ["DEFAULT", "FAST", "FAULTS", "Fault", "network", "processes", "programs", "servers"]

NEEDS_SENTINEL = ("failover",)
DEFAULT = tuple(name for name in FAULTS if name not in NEEDS_SENTINEL)
"""What a run has when nothing else is asked for."""
FAST = ("worker-kill", "keeper-kill", "child-kill", "script-flush", "reply-reset", "duplicate")
"""What ends within a second or two of its own."""
