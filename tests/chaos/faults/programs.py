"""Faults that are requests: poison, and the same request again."""

from __future__ import annotations

import asyncio
from random import Random

from executor.errors import ExecutorError
from executor.keys import Keys
from tests.chaos.cell import Cell
from tests.chaos.faults.fault import Harm, fault
from tests.chaos.producer import request_of
from tests.chaos.programs import KILL, plain_fields, poison


@fault("poison", "poison")
async def submit_poison(cell: Cell, dice: Random) -> Harm:
    """A program that kills its keeper, its zygote or its worker, each time it runs; until it is lost."""
    victim = dice.choice(sorted(KILL))
    await cell.extras.run(poison(cell.extras.blank("poison"), victim))
    return Harm(f"kills its {victim}")


@fault("duplicate", "")
async def add_again(cell: Cell, dice: Random) -> Harm:
    """Requests that were accepted are added again, as by a client that missed the reply."""
    keys = Keys(cell.settings.server.prefix)
    found = dice.sample(cell.sent, min(5, len(cell.sent)))
    for program in found:
        try:
            words = plain_fields(request_of(program))
            await cell.looking.call("XADD", keys.requests(program.tenant), "*", *words)
        except ExecutorError:
            await asyncio.sleep(0)
    return Harm(f"{len(found)} requests")
