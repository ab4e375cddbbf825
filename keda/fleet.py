"""What the autoscaler scales: replicas of a lane, whatever they are made of.

On one machine they are processes (`keda.processes`); tests bring their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Replica:
    """One worker that runs or is about to; one that was told to stop no longer counts.

    Attributes:
        id: its name, like a pod's.
        ready: a pool worker is registered, a one-shot worker has claimed. Until then it looks Pending to KEDA.
        busy: it holds work.
    """

    id: str
    ready: bool
    busy: bool


class Fleet(Protocol):
    """Port: how replicas come and go. Counts are exact at once; processes may lag behind."""

    def replicas(self, lane: str) -> list[Replica]:
        """The replicas of a lane."""
        ...

    async def start(self, lane: str, count: int) -> None:
        """Add replicas."""
        ...

    async def stop(self, lane: str, count: int) -> None:
        """Tell replicas to drain and leave, idle ones first; does not wait for them."""
        ...
