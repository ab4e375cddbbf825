"""What really ran, by the notes that the jobs left."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Notes:
    """When each job began and when it ended, as often as it did.

    Attributes:
        begun: monotonic seconds of each beginning, by the job's name.
        ended: the same of each end.
    """

    begun: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    ended: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, path: Path) -> "Notes":
        """Read a file that may not be there yet and may still grow."""
        notes = cls()
        whole, _, _ = (path.read_text() if path.exists() else "").rpartition("\n")
        for line in whole.splitlines():
            event, name, at = line.split(" ")
            (notes.begun if event == "begin" else notes.ended)[name].append(float(at))
        return notes

    def count_ended(self, names: Collection[str]) -> int:
        """How many of some jobs have run to their end."""
        return sum(name in self.ended for name in names)

    def most_at_once(self, names: Collection[str]) -> int:
        """How many of some jobs ran side by side at most."""
        steps = [(at, 1) for name in names for at in self.begun.get(name, [])]
        steps += [(at, -1) for name in names for at in self.ended.get(name, [])]
        running = most = 0
        for _, step in sorted(steps):
            running += step
            most = max(most, running)
        return most

    def cut_short(self, names: Collection[str]) -> int:
        """How many runs began and never ended; only true once everything stands still."""
        return sum(len(self.begun.get(name, [])) - len(self.ended.get(name, [])) for name in names)

    def twice(self, names: Collection[str]) -> tuple[int, int]:
        """How many jobs began more than once, and how many ran to their end more than once."""
        return (
            sum(len(self.begun.get(name, [])) > 1 for name in names),
            sum(len(self.ended.get(name, [])) > 1 for name in names),
        )

    def last_begun_again(self, names: Collection[str]) -> float | None:
        """When the last of the jobs that began more than once began for the second time."""
        again = [sorted(times)[1] for name, times in self.begun.items() if name in names and len(times) > 1]
        return max(again, default=None)
