"""One lane with its evaluations and workers, as a model: who owns what, and which ends are the ends."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Evaluation:
    """What a record says."""

    name: str
    max_attempts: int
    state: str = "queued"
    attempt: int = 0
    generation: int = 0
    owner: str = ""
    cancel: bool = False
    outcome: str = ""


@dataclass
class Pending:
    """An entry that was delivered and is not acknowledged."""

    name: str
    worker: str
    expired: bool = False


@dataclass
class Lease:
    """A claim that was granted once, whether it stands or not."""

    entry: int
    name: str
    worker: str
    generation: int


@dataclass
class Delivery:
    """The lane.

    Attributes:
        known: evaluations by name.
        queue: entries that nobody has read: (number, name); numbers rise with each entry.
        pending: delivered entries by number.
        later: names that wait before their next attempt.
        results: names in the order of their ends.
        dead: names that are among the dead letters.
    """

    known: dict[str, Evaluation] = field(default_factory=dict)
    queue: list[tuple[int, str]] = field(default_factory=list)
    pending: dict[int, Pending] = field(default_factory=dict)
    later: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    added: int = 0

    def admit(self, name: str, max_attempts: int) -> None:
        """A new evaluation."""
        self.known[name] = Evaluation(name, max_attempts)
        self._add(name)

    def read(self, worker: str) -> int | None:
        """The next entry goes to a worker."""
        if not self.queue:
            return None
        number, name = self.queue.pop(0)
        self.pending[number] = Pending(name, worker)
        return number

    def claim(self, number: int, worker: str) -> Lease | None:
        """A worker begins what it read."""
        held = self.pending.get(number)
        if held is None or held.worker != worker:
            return None
        one = self.known[held.name]
        if one.state == "done":
            del self.pending[number]
        if one.state != "queued":
            return None
        one.state, one.owner = "running", worker
        one.generation += 1
        one.attempt += 1
        return Lease(number, one.name, worker, one.generation)

    def renew(self, lease: Lease) -> str:
        """A worker says that it lives."""
        one, held = self.known[lease.name], self.pending.get(lease.entry)
        if held is None or held.worker != lease.worker or not self._stands(lease):
            return "lost"
        held.expired = False
        return "cancel" if one.cancel else "ok"

    def commit(self, lease: Lease, outcome: str) -> bool:
        """A worker has a result; True when it is, or was, the result."""
        one = self.known[lease.name]
        if self._stands(lease):
            self._end(one, outcome)
            self.pending.pop(lease.entry, None)
            return True
        return one.generation == lease.generation and one.state == "done"

    def release(self, number: int, worker: str, generation: int | None) -> str:
        """A worker hands an entry back."""
        held = self.pending.get(number)
        if held is None or held.worker != worker:
            return "passed"
        one = self.known[held.name]
        del self.pending[number]
        if one.state == "queued" or (one.state == "running" and generation in (None, one.generation)):
            return self._next_or_lost(one)
        return "gone"

    def rescue(self, number: int) -> str:
        """The janitor looks at an entry."""
        held = self.pending[number]
        if not held.expired:
            return "alive"
        one = self.known[held.name]
        del self.pending[number]
        if one.state == "done":
            return "gone"
        return self._next_or_lost(one)

    def _next_or_lost(self, one: Evaluation) -> str:
        if one.attempt < one.max_attempts:
            self._requeue(one)
            return "requeued"
        self._end(one, "lost")
        self.dead.append(one.name)
        return "lost"

    def cancel(self, name: str) -> str:
        """A caller takes one back."""
        one = self.known[name]
        if one.state == "done":
            return "done"
        if one.state == "running":
            one.cancel = True
            return "cancelling"
        if name in self.later:
            self.later.remove(name)
        self._end(one, "cancelled")
        return "cancelled"

    def time_passes(self) -> None:
        """What waits before its next attempt has waited long enough."""
        for name in sorted(self.later):
            self._add(name)
        self.later = []

    def _stands(self, lease: Lease) -> bool:
        one = self.known[lease.name]
        return one.state == "running" and one.generation == lease.generation

    def _add(self, name: str) -> None:
        self.added += 1
        self.queue.append((self.added, name))

    def _requeue(self, one: Evaluation) -> None:
        one.state, one.owner = "queued", ""
        if one.attempt < 2:
            self._add(one.name)
        else:
            self.later.append(one.name)

    def _end(self, one: Evaluation, outcome: str) -> None:
        one.state, one.outcome, one.owner, one.cancel = "done", outcome, "", False
        self.results.append(one.name)
