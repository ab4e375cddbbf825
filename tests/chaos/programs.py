"""What is submitted: a mix of programs that a seed decides, each with what may become of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from tests.chaos.history import named

TRUSTED: Final = ("default", "alpha", "beta")
UNTRUSTED: Final = "stranger"
"""Its evaluations go to a job lane, whose workers start from zero, one for each."""

STARTED: Final = """\
import os, time
_log = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(_log, f"{name} {{os.getpid()}} {{time.monotonic_ns()}} {{time.time_ns()}}\\n".encode())
os.close(_log)
"""
"""First lines of every program: what it says of itself cannot be wrong about whether it ran."""

KILL: Final = {"keeper": (1, "executor-scratch-"), "zygote": (2, "executor-scratch-"), "worker": (3, "\0-m\0worker\0")}
"""Poison: so many steps above it is what it kills, and a word of its command line. Without a zygote above the keeper
somebody else is found there, who is left alone."""

POISON: Final = """\
pid = os.getpid()
for _ in range({steps}):
    pid = int(open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[1])
if {word!r} not in open(f"/proc/{{pid}}/cmdline").read():
    raise SystemExit(3)
try:
    os.kill(pid, 9)
except PermissionError:
    raise SystemExit(3)
time.sleep(9)
"""


@dataclass(frozen=True, slots=True)
class Program:
    """One evaluation to submit."""

    number: int
    id: str
    """Empty: it gets the id of its ingress entry."""
    tenant: str
    fields: Mapping[str, Any]
    """Of the request, beside the id; without the times that count from its submission."""
    allowed: frozenset[str]
    """Outcomes that it may have."""
    prints: str | None = None
    """Standard output of a success; None when it is not told."""
    plain: bool = False
    """Whether it is added with XADD by a program that knows no client."""
    times_sent: int = 1
    """How often its caller sends it on purpose."""
    cancel_after: float | None = None
    """Seconds after it was accepted."""
    not_before_in: float | None = None
    """Seconds after it was sent."""
    deadline_in: float | None = None
    once: str = ""
    """Idempotency key."""
    kind: str = field(default="", compare=False)

    @property
    def ordered(self) -> bool:
        """Whether its place in its lane follows from its admission alone."""
        return self.not_before_in is None


Maker = Callable[[Random, Program], Program]


def _code(program: Program, body: str, **fields: Any) -> dict[str, Any]:
    return {**program.fields, "code": body, **fields}


def _prints(dice: Random, program: Program) -> Program:
    word = f"{program.number}"
    return replace(program, fields=_code(program, f"print({word!r})"), prints=word + "\n")


def _raises(_dice: Random, program: Program) -> Program:
    return replace(program, fields=_code(program, f"raise ValueError({program.number})"), allowed=frozenset({"failed"}))


def _exits(_dice: Random, program: Program) -> Program:
    return replace(program, fields=_code(program, "raise SystemExit(3)"), allowed=frozenset({"failed"}))


def _sleeps(dice: Random, program: Program) -> Program:
    seconds, word = dice.uniform(0, 0.5), str(program.number)
    return replace(program, fields=_code(program, f"time.sleep({seconds:.3f})\nprint({word!r})"), prints=word + "\n")


def _writes(dice: Random, program: Program) -> Program:
    """Some of it longer than a reply carries."""
    size = dice.choice((1_000, 60_000, 200_000))
    letter = "abcdefgh"[program.number % 8]
    return replace(program, fields=_code(program, f"print({letter!r} * {size})"), prints=letter * size + "\n")


def _streams(_dice: Random, program: Program) -> Program:
    body = f"print({program.number}, flush=True)\ntime.sleep(0.02)\nprint('end')"
    return replace(program, fields=_code(program, body, stream=True), prints=f"{program.number}\nend\n")


def _reads(_dice: Random, program: Program) -> Program:
    fields = _code(
        program, "import sys\nprint(sys.stdin.read(), sys.argv[1])", stdin=f"in-{program.number}", args=["x"]
    )
    return replace(program, fields=fields, prints=f"in-{program.number} x\n")


def _runs_too_long(_dice: Random, program: Program) -> Program:
    return replace(program, fields=_code(program, "time.sleep(30)", timeout=0.3), allowed=frozenset({"timed_out"}))


def _leaves_a_process(_dice: Random, program: Program) -> Program:
    body = f"if os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n    os._exit(0)\nprint({program.number})"
    return replace(program, fields=_code(program, body), prints=f"{program.number}\n")


def _is_cancelled_soon(dice: Random, program: Program) -> Program:
    """While it is queued, or just about not."""
    allowed = frozenset({"cancelled", "succeeded"})
    return replace(_sleeps(dice, program), allowed=allowed, cancel_after=0.0, plain=False)


def _is_cancelled_late(_dice: Random, program: Program) -> Program:
    fields = _code(program, "time.sleep(4)\nprint('slept')")
    allowed = frozenset({"cancelled", "succeeded"})
    return replace(program, fields=fields, prints="slept\n", allowed=allowed, cancel_after=0.4, plain=False)


def _has_a_deadline(dice: Random, program: Program) -> Program:
    allowed = frozenset({"timed_out", "succeeded"})
    return replace(_sleeps(dice, program), allowed=allowed, deadline_in=dice.uniform(0.05, 3))


def _waits_for_its_time(dice: Random, program: Program) -> Program:
    return replace(_prints(dice, program), not_before_in=dice.uniform(0.2, 2))


def _comes_twice(dice: Random, program: Program) -> Program:
    return replace(_prints(dice, program), times_sent=2)


def _is_not_acceptable(dice: Random, program: Program) -> Program:
    fields = {**_prints(dice, program).fields, "colour": "red"}
    return replace(program, fields=fields, allowed=frozenset({"rejected"}), plain=True)


def _has_no_name(dice: Random, program: Program) -> Program:
    return replace(_prints(dice, program), id="", plain=True)


def _goes_to_a_job(dice: Random, program: Program) -> Program:
    return replace(_prints(dice, program), tenant=UNTRUSTED)


def _poisons(_dice: Random, program: Program) -> Program:
    return poison(program, "keeper")


def poison(program: Program, victim: str) -> Program:
    """A program that kills what runs it: `keeper`, `zygote` or `worker`; where a sandbox refuses that it fails.

    A zygote alone ends nothing that runs: that program ends by its timeout.
    """
    steps, word = KILL[victim]
    outcomes = {"timed_out", "failed", "lost"} if victim == "zygote" else {"lost", "failed"}
    fields = _code(program, POISON.format(steps=steps, word=word), max_attempts=2, timeout=1.0)
    return replace(program, fields=fields, allowed=frozenset(outcomes), kind="poison")


MIX: Final[dict[Maker, int]] = {
    _prints: 600,
    _raises: 60,
    _exits: 30,
    _sleeps: 80,
    _writes: 30,
    _streams: 20,
    _reads: 30,
    _runs_too_long: 15,
    _leaves_a_process: 10,
    _is_cancelled_soon: 10,
    _is_cancelled_late: 6,
    _has_a_deadline: 15,
    _waits_for_its_time: 15,
    _comes_twice: 25,
    _is_not_acceptable: 10,
    _has_no_name: 20,
    _goes_to_a_job: 2,
    _poisons: 1,
}
"""Parts in about a thousand."""

ATTEMPTS: Final = 10
"""As many as the policy allows: only poison may be lost."""


def programs(seed: int, count: int, started: str) -> list[Program]:
    """The programs of a run.

    Args:
        seed: decides all of it.
        count: how many.
        started: file in which they say that they started.
    """
    dice = Random(f"programs {seed}")
    makers, weights = list(MIX), list(MIX.values())
    found = [one(dice, dice.choices(makers, weights)[0], number, f"c{seed}-{number}") for number in range(count)]
    return [announced(program, started) for program in _with_keys(dice, found)]


def one(dice: Random, make: Maker, number: int, evaluation_id: str) -> Program:
    """One program of a kind, by the dice."""
    fields: dict[str, Any] = {"max_attempts": ATTEMPTS}
    if (priority := dice.choices(("normal", "high", "low"), (70, 15, 15))[0]) != "normal":
        fields["priority"] = priority
    tenant = dice.choices(TRUSTED, (60, 20, 20))[0]
    program = Program(number, evaluation_id, tenant, fields, frozenset({"succeeded"}), plain=dice.random() < 0.25)
    made = make(dice, program)
    return replace(made, kind=made.kind or make.__name__.strip("_"))


def _with_keys(dice: Random, found: list[Program]) -> list[Program]:
    """Some neighbours share an idempotency key: one of them runs."""
    keyed = list(found)
    for index in range(0, len(found) - 1, 2):
        first, second = found[index], found[index + 1]
        if first.kind == second.kind == "prints" and dice.random() < 0.06:
            key = f"key {first.number}"
            for place, program in ((index, first), (index + 1, second)):
                keyed[place] = replace(program, once=key, tenant=first.tenant, prints=None, kind="once")
    return keyed


def announced(program: Program, started: str) -> Program:
    """The same, saying first that it started."""
    name = named(program.tenant, program.id or f"number-{program.number}")
    code = STARTED.format(path=started, name=name) + program.fields["code"]
    return replace(program, fields={**program.fields, "code": code})


def plain_fields(values: Mapping[str, Any]) -> list[str]:
    """A request as field and value words of XADD."""
    words: list[str] = []
    for name, value in values.items():
        words += [name, value if isinstance(value, str) else json.dumps(value)]
    return words
