"""What a fault is, and the register of all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from executor.errors import ExecutorError
from executor.keys import WORKERS, Keys
from executor.streams.channel import pairs
from tests.chaos.cell import WARM, Cell
from tests.chaos.history import named, now


@dataclass
class Harm:
    """What a fault did.

    Attributes:
        held: evaluations that the victim held when it was struck, by the moment of it.
        pids: processes of evaluations that were killed: `killed` is then what became of them.
        detail: for people.
    """

    detail: str = ""
    held: list[str] = field(default_factory=list)
    struck: float = 0.0
    pids: list[int] = field(default_factory=list)


Strike = Callable[[Cell, Random], Awaitable[Harm]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    Attributes:
        lock: faults that share one do not overlap.
        about: what it does, in a line.
    """

    name: str
    lock: str
    strike: Strike
    about: str


FAULTS: dict[str, Fault] = {}


def fault(name: str, lock: str) -> Callable[[Strike], Strike]:
    """Register a fault under its name; what it does says its docstring."""

    def register(strike: Strike) -> Strike:
        FAULTS[name] = Fault(name, lock, strike, (strike.__doc__ or "").partition("\n")[0])
        return strike

    return register


async def held_by(cell: Cell, worker: str) -> list[str]:
    """Evaluations that a worker holds now; [] when the server cannot say."""
    keys, redis = Keys(cell.settings.server.prefix), cell.looking
    try:
        rows = await redis.call("XPENDING", keys.lane(WARM), WORKERS, "-", "+", 100, worker)
        found = []
        for entry, *_ in rows:
            for _, flat in await redis.call("XRANGE", keys.lane(WARM), entry, entry):
                facts = pairs(flat)
                found.append(named(facts[b"tenant"].decode(), facts[b"id"].decode()))
        return found
    except ExecutorError:
        return []


async def strike_worker(cell: Cell, worker: str, act: Callable[[], bool]) -> Harm:
    """Note what a worker holds, then do something to it."""
    held = await held_by(cell, worker)
    act()
    return Harm(worker, held, now())
