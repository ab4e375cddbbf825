"""A producer: submits its share of the programs and waits for each result, whatever happens to the server or to itself.

    python -m tests.chaos.producer <known.json> <number> <log>

It may be killed at any moment; started again, it reads its own log and goes on: what is not known to be accepted is
sent again under the same id, what is not known to be seen is waited for.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from executor.errors import ExecutorError
from executor.settings import load
from tests.chaos.gate import Gate
from tests.chaos.history import Log, named
from tests.chaos.programs import Program, programs

T = TypeVar("T")

WINDOW = 90
"""Evaluations that one producer has under way."""
LOOK_AGAIN = 8.0
"""Seconds without a result after which a caller whose server may forget asks whether its request is known."""
PATIENCE = 100.0
"""Seconds after which a wait is given up, and the run has failed."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one producer has to do.

    Attributes:
        todo: its programs.
        accepted: id of each that is known to be accepted, by number.
        seen: numbers of those whose result is known.
        gate: says how far it may go.
        guarded: whether there is a replica.
        forgetful: whether what was accepted can vanish: a replica takes over, or a crash costs the last second.
    """

    todo: list[Program]
    accepted: dict[int, str]
    seen: set[int]
    gate: Gate
    guarded: bool
    forgetful: bool


def share_of(known: Mapping[str, Any], number: int, log: Path) -> Share:
    """The programs of a producer, and what its log says of them."""
    clients, plain = known["clients"], known["plain"]
    found = programs(known["seed"], known["evaluations"], known["started"])
    mine = [one for one in found if producer_of(one, clients, plain) == number]
    accepted, seen = {}, set()
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            _, kind, name, facts = json.loads(line)
        except ValueError:
            continue
        if kind == "accepted" and not facts.get("again"):
            accepted[facts["program"]] = name.partition("/")[2]
        elif kind == "seen":
            seen.add(facts["program"])
    return Share(mine, accepted, seen, Gate(Path(known["gate"])), known["guarded"], known["forgetful"])


def producer_of(program: Program, clients: int, plain: int) -> int:
    """Which producer submits a program; two that share a key may have different ones."""
    if program.plain and plain:
        return clients + program.number % plain
    return program.number % clients


def summary(text: str) -> str:
    """What is told of an output: itself when it is short, else its digest."""
    return text if len(text) <= 64 else hashlib.sha256(text.encode()).hexdigest()[:16]


def request_of(program: Program) -> dict[str, Any]:
    """Its request, with the times that count from now."""
    values: dict[str, Any] = dict(program.fields)
    if program.id:
        values["id"] = program.id
    if program.once:
        values["idempotency_key"] = program.once
    wall = time.time_ns() / 1e9
    for name, seconds in (("not_before", program.not_before_in), ("deadline", program.deadline_in)):
        if seconds is not None:
            values[name] = round(wall + seconds, 3)
    return values


class Telling:
    """Says in the log what a producer does."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def tried(self, program: Program, values: Mapping[str, Any]) -> None:
        """Before a request is sent."""
        name = named(program.tenant, program.id or f"number-{program.number}")
        self._log.say("tried", name, program=program.number, not_before=values.get("not_before"))

    def accepted(self, program: Program, evaluation_id: str, **facts: Any) -> None:
        """The server has answered. `again`: a second time on purpose; `replicated`: a replica has it too."""
        told = {name: value for name, value in facts.items() if value}
        self._log.say("accepted", named(program.tenant, evaluation_id), program=program.number, **told)

    def vanished(self, program: Program, evaluation_id: str) -> None:
        """It was accepted and is not known any more; it is sent again."""
        self._log.say("vanished", named(program.tenant, evaluation_id), program=program.number)

    def seen(self, program: Program, evaluation_id: str, of: str, outcome: str, attempt: int, stdout: str) -> None:
        """The wait has returned the result of an evaluation: its own, or the first one's of its key."""
        facts = {"of": of, "outcome": outcome, "attempt": attempt, "stdout": summary(stdout)}
        self._log.say("seen", named(program.tenant, evaluation_id), program=program.number, **facts)

    def cancelled(self, program: Program, answer: str, more: str) -> None:
        """A cancel was answered."""
        self._log.say("cancel", named(program.tenant, program.id), answer=answer, more=more)


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat until the server answers."""
    while True:
        try:
            return await call()
        except ExecutorError as error:
            if not hasattr(error, "retry_after"):
                raise
            await asyncio.sleep(random.uniform(0.05, 0.5))


def main(known_path: str, number: str, log_path: str) -> None:
    """Do the share."""
    from tests.chaos.producing import with_client, with_wire

    known = json.loads(Path(known_path).read_text())
    share = share_of(known, int(number), Path(log_path))
    telling = Telling(Log(Path(log_path)))
    submit = with_client if int(number) < known["clients"] else with_wire
    asyncio.run(submit(share, telling, load()))


if __name__ == "__main__":
    main(*sys.argv[1:])
