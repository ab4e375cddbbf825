"""What waits before a lane, as a model: start-time fair queueing over three priorities and their tenants."""

from __future__ import annotations

from dataclasses import dataclass, field

COST = (1, 4, 16)


@dataclass
class Line:
    """What waits, and what has been let in, of one lane.

    Attributes:
        credit: entries that the lane holds.
        lane: names let in, in order.
        open: how many of them are not done.
    """

    credit: int
    lane: list[str] = field(default_factory=list)
    open: int = 0
    waiting: list[list[tuple[float, str]]] = field(default_factory=lambda: [[], [], []])
    turn: float = 0
    next_turn: list[float] = field(default_factory=lambda: [0, 0, 0])
    time: list[float] = field(default_factory=lambda: [0, 0, 0])
    next_tag: dict[tuple[int, str], float] = field(default_factory=dict)

    def admit(self, priority: int, tenant: str, member: str) -> None:
        """One request; `member` sorts as the server sorts equal tags."""
        if self.open < self.credit and not any(self.waiting):
            self._let_in(member)
            return
        tag = max(self.time[priority], self.next_tag.get((priority, tenant), 0))
        self.next_tag[priority, tenant] = tag + 1
        self.waiting[priority].append((tag, member))
        self.feed()

    def finish(self) -> None:
        """One that was let in is done."""
        self.open -= 1
        self.feed()

    def cancel(self, member: str) -> None:
        """One that waits is taken out."""
        self.waiting = [[one for one in line if one[1] != member] for line in self.waiting]

    def feed(self) -> None:
        """Let in what there is room for."""
        while self.open < self.credit and any(self.waiting):
            ready = [priority for priority in range(3) if self.waiting[priority]]
            priority = min(ready, key=lambda one: (max(self.turn, self.next_turn[one]), one))
            self.turn = max(self.turn, self.next_turn[priority])
            self.next_turn[priority] = self.turn + COST[priority]
            first = min(self.waiting[priority])
            self.waiting[priority].remove(first)
            self.time[priority] = first[0]
            self._let_in(first[1])
        if not any(self.waiting):
            self.turn, self.next_turn, self.time, self.next_tag = 0, [0, 0, 0], [0, 0, 0], {}

    def _let_in(self, member: str) -> None:
        self.lane.append(member)
        self.open += 1
