"""A run: a cell, its programs, faults as the work goes on, and the history of it all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.cell import Cell, Shape
from tests.chaos.ending import Ending
from tests.chaos.faults import FAULTS
from tests.chaos.faults.fault import Harm
from tests.chaos.gate import Gate
from tests.chaos.history import Event, History, named, now, read, read_starts
from tests.chaos.logs import read_logs
from tests.chaos.observer import Observer
from tests.chaos.programs import UNTRUSTED, Program, programs
from tests.chaos.schedule import Step, dice_of, plan

AT_ONCE = 2
"""Faults at the same time, at most."""
_LOOK = 0.05
_STILL = 120.0
"""Seconds without a result after which a run is given up: the checker says what is missing."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run left for the checker.

    Attributes:
        programs: everything that was submitted.
        seconds: from the first request to the last result.
    """

    shape: Shape
    programs: list[Program]
    history: History
    steps: list[Step]
    seconds: float


async def run(
    shape: Shape,
    faults: Sequence[str],
    folder: Path,
    *,
    every: int,
    faketime: str = "",
    say: Callable[[str], None] = print,
) -> Run:
    """Make a run in an empty folder."""
    cell = Cell(shape, folder, faketime)
    found = programs(shape.seed, shape.evaluations, str(cell.started))
    steps = plan(shape.seed, shape.evaluations, faults, every)
    try:
        await cell.start()
        observer = Observer(cell)
        ending = Ending(cell)
        await cell.extras.probe("default")
        if shape.autoscaler:
            await cell.extras.probe(UNTRUSTED)
        await ending.all_serve()
        before = ending.descriptors()
        begin = now()
        strikes = _Strikes(cell, observer, found, steps, say)
        cell.add_producers(_known(shape, cell, folder))
        await strikes.until_done()
        seconds = now() - begin
        await _come_to_rest(cell, observer, ending, found, before)
        await cell.stop_programs()
        await ending.tell_machine()
    finally:
        await cell.close()
    extras = cell.extras.programs
    events: list[Event] = [*read(folder / "history"), *read_starts(cell.started), *read_logs(folder / "logs")]
    return Run(shape, [*found, *extras], History(events), steps, seconds)


def _known(shape: Shape, cell: Cell, folder: Path) -> Path:
    """What producers have to know of the run."""
    path = folder / "known.json"
    path.write_text(
        json.dumps(
            {
                **asdict(shape),
                "started": str(cell.started),
                "gate": str(folder / "gate"),
                "forgetful": bool(shape.forgetful),
            }
        )
    )
    return path


async def _come_to_rest(
    cell: Cell, observer: Observer, ending: Ending, found: list[Program], before: dict[str, int]
) -> None:
    """Look at the server and at the programs while they still run but have nothing to do."""
    await ending.tell_server()
    ending.tell_descriptors(before)
    ending.tell_trees()
    names = {named(one.tenant, one.id) for one in [*found, *cell.extras.programs] if one.id}
    await ending.tell_records(sorted(names | observer.names))
    await observer.close()


class _Strikes:
    """Starts each fault when its time has come, until every producer is done."""

    def __init__(
        self, cell: Cell, observer: Observer, found: list[Program], steps: list[Step], say: Callable[[str], None]
    ) -> None:
        self._cell = cell
        self._observer = observer
        self._by_name = {named(one.tenant, one.id): one for one in found if one.id}
        self._steps = list(steps)
        self._say = say
        self._room = asyncio.Semaphore(AT_ONCE)
        self._locks: dict[str, asyncio.Lock] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._open = {step.number: step.due for step in steps}
        self._gate = Gate(cell.folder / "gate")
        self._let_through()

    async def until_done(self) -> None:
        """Strike and wait."""
        last, since = -1, now()
        while not all(one.done.is_set() for one in self._cell.producers) or self._running:
            await asyncio.sleep(_LOOK)
            for task in [one for one in self._running if one.done()]:
                self._running.discard(task)
                task.result()
            if self._observer.committed != last:
                last, since = self._observer.committed, now()
            elif now() - since > _STILL:
                self._say(f"no result for {_STILL:g} s; given up")
                for task in self._running:
                    task.cancel()
                return
            self._remember()
            while self._steps and self._steps[0].due <= last:
                step = self._steps.pop(0)
                await self._room.acquire()
                self._running.add(asyncio.create_task(self._strike(step), name=step.fault))

    def _let_through(self) -> None:
        """Work goes as far as the second fault from now needs it."""
        ahead = sorted(self._open.values())
        self._gate.open_to(ahead[AT_ONCE] if len(ahead) > AT_ONCE else self._cell.shape.evaluations)

    def _remember(self) -> None:
        """What has ended can be sent again."""
        for name in self._observer.take_ended():
            if (program := self._by_name.get(name)) is not None:
                self._cell.sent.append(program)

    async def _strike(self, step: Step) -> None:
        fault = FAULTS[step.fault]
        try:
            async with self._locks.setdefault(fault.lock, asyncio.Lock()) if fault.lock else asyncio.Lock():
                began = now()
                harm = await fault.strike(self._cell, dice_of(self._cell.shape.seed, step))
                ended = now()
            await self._tell(step, harm, began, ended)
        finally:
            del self._open[step.number]
            self._let_through()
            self._room.release()

    async def _tell(self, step: Step, harm: Harm, began: float, ended: float) -> None:
        """Put it into the history, and show that what starts from zero still does."""
        fault = FAULTS[step.fault]
        facts: dict[str, Any] = {"number": step.number, "fault": fault.name, "began": began, "ended": ended}
        facts |= {"held": harm.held, "struck": harm.struck or began, "pids": harm.pids, "detail": harm.detail}
        facts["undoes"] = fault.name in self._cell.shape.forgetful
        self._cell.log.say("fault", **facts)
        self._say(f"{self._observer.committed:>7} results  fault {step.number:>3} {fault.name:<17} {harm.detail}")
        if self._cell.shape.autoscaler:
            name = await self._cell.extras.probe(UNTRUSTED)
            self._cell.log.say("probe", name, number=step.number, fault=fault.name, began=ended, ended=now())
