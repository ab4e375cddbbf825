"""What is sent: mostly short programs, and a little of everything that leaves something behind."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request.

    Attributes:
        weight: of a thousand.
        outcome: that its result must have.
        fields: of the request.
    """

    weight: int
    outcome: str
    fields: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "short": Kind(900, "succeeded", {"code": "print('ok')"}),
    "output": Kind(40, "succeeded", {"code": "print('x' * 32768)"}),
    "raises": Kind(20, "failed", {"code": "raise ValueError('no')"}),
    "signal": Kind(10, "killed", {"code": "import os; os.kill(os.getpid(), 9)"}),
    "file": Kind(10, "succeeded", {"code": "open('left-behind', 'w').write('x' * 65536)"}),
    "live output": Kind(10, "succeeded", {"code": "print('ok')", "stream": True}),
    "idempotency key": Kind(10, "succeeded", {"code": "print('ok')"}),
}


class Mix:
    """Requests in a random order that is the same in every run."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._kinds = list(KINDS)
        self._weights = [kind.weight for kind in KINDS.values()]
        self._made = 0

    def next(self) -> tuple[dict[str, Any], str]:
        """A request and the outcome it must have."""
        (name,) = self._random.choices(self._kinds, self._weights)
        kind = KINDS[name]
        self._made += 1
        more = {"idempotency_key": f"soak-{id(self)}-{self._made}"} if name == "idempotency key" else {}
        return {**kind.fields, **more}, kind.outcome

    def pause(self, rate: float) -> float:
        """Seconds until the next arrival of a Poisson process."""
        return self._random.expovariate(rate)
