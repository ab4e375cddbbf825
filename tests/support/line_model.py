"""What waits before a lane, as a model: fair queueing over three priorities and their tenants, with quotas."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

COST = (1, 4, 16)


@dataclass
class Line:
    """What waits, and what has been let in, of one lane.

    Attributes:
        credit: entries that the lane holds.
        quotas: how many of a tenant may be in it; no limit for one without.
        lane: names let in, in order.
        done: how many of them, from the front, are acknowledged.
        inside: how many of each tenant are in it and have not ended.
        ended: names in it that were cancelled there.
        waiting: names of each priority and tenant, oldest first.
        turns: tenants of each priority by tag; infinite while one is at its quota.
    """

    credit: int
    quotas: Mapping[str, int] = field(default_factory=dict)
    lane: list[str] = field(default_factory=list)
    done: int = 0
    inside: Counter[str] = field(default_factory=Counter)
    ended: set[str] = field(default_factory=set)
    waiting: dict[tuple[int, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    turns: list[dict[str, float]] = field(default_factory=lambda: [{}, {}, {}])
    turn: float = 0
    next_turn: list[float] = field(default_factory=lambda: [0, 0, 0])
    time: list[float] = field(default_factory=lambda: [0, 0, 0])
    next_tag: dict[tuple[int, str], float] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """Entries that are not acknowledged."""
        return len(self.lane) - self.done

    @property
    def queued(self) -> list[str]:
        """Every name that waits."""
        return [name for names in self.waiting.values() for name in names]

    def admit(self, priority: int, tenant: str, name: str) -> None:
        """One request."""
        if self.open < self.credit and not self.queued and not self._at_quota(tenant):
            self._let_in(tenant, name)
            return
        self.waiting[priority, tenant].append(name)
        self._take_turn(priority, tenant)
        self._feed(1)

    def finish(self) -> None:
        """A worker reads the next entry and ends it, or passes over what has ended."""
        name = self.lane[self.done]
        self.done += 1
        if name in self.ended:
            return
        tenant = name.partition("/")[0]
        self.inside[tenant] -= 1
        if self.queued:
            for priority in range(3):
                self._take_turn_again(priority, tenant)
        self._feed(1)

    def cancel(self, name: str) -> None:
        """One that has not been read is taken back, in the line or in the lane."""
        for names in self.waiting.values():
            if name in names:
                names.remove(name)
                return
        self.ended.add(name)
        self.inside[name.partition("/")[0]] -= 1

    def look(self) -> None:
        """The janitor's pass."""
        for priority in range(3):
            for tenant in list(self.turns[priority]):
                self._take_turn_again(priority, tenant)
        self._feed(len(self.lane) + len(self.queued))

    def _feed(self, most: int) -> None:
        fed = 0
        while self.open < self.credit and fed < most:
            ready = [one for one in range(3) if min(self.turns[one].values(), default=inf) < inf]
            if not ready:
                break
            priority = min(ready, key=lambda one: (max(self.turn, self.next_turn[one]), one))
            turn = max(self.turn, self.next_turn[priority])
            if self._serve(priority):
                self.turn, self.next_turn[priority] = turn, turn + COST[priority]
                fed += 1
        if not self.queued:
            self.turns = [{}, {}, {}]
            self.turn, self.next_turn, self.time, self.next_tag = 0, [0, 0, 0], [0, 0, 0], {}

    def _serve(self, priority: int) -> bool:
        tag, tenant = min((tag, tenant) for tenant, tag in self.turns[priority].items())
        del self.turns[priority][tenant]
        names = self.waiting[priority, tenant]
        if names and self._at_quota(tenant):
            self.next_tag[priority, tenant] = tag
            self.turns[priority][tenant] = inf
            return False
        if not names:
            return False
        self._let_in(tenant, names.pop(0))
        self.time[priority], self.next_tag[priority, tenant] = tag, tag + 1
        if names:
            self._take_turn(priority, tenant)
        return True

    def _take_turn(self, priority: int, tenant: str) -> None:
        tag = max(self.time[priority], self.next_tag.get((priority, tenant), 0))
        self.turns[priority].setdefault(tenant, tag)

    def _take_turn_again(self, priority: int, tenant: str) -> None:
        if self.turns[priority].get(tenant) == inf and not self._at_quota(tenant):
            del self.turns[priority][tenant]
            self._take_turn(priority, tenant)

    def _at_quota(self, tenant: str) -> bool:
        return self.inside[tenant] >= self.quotas.get(tenant, inf)

    def _let_in(self, tenant: str, name: str) -> None:
        self.lane.append(name)
        self.inside[tenant] += 1
