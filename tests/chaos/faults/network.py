"""Faults of the network between some programs and the server: silence, and connections that break."""

from __future__ import annotations

from random import Random

from tests.chaos.cell import Cell
from tests.chaos.faults.fault import Harm, fault


@fault("request-stall", "network")
async def stall_requests(cell: Cell, dice: Random) -> Harm:
    """Commands are on their way for longer than their callers wait, who send them again; then all of them arrive."""
    seconds = dice.uniform(1.5, 3)
    await cell.proxy.withhold("requests", seconds)
    return Harm(f"{seconds:.1f} s")


@fault("reply-stall", "network")
async def stall_replies(cell: Cell, dice: Random) -> Harm:
    """Replies are on their way for longer than callers wait: what was done is asked for again."""
    seconds = dice.uniform(1.5, 3)
    await cell.proxy.withhold("replies", seconds)
    return Harm(f"{seconds:.1f} s")


@fault("reply-reset", "network")
async def reset_connections(cell: Cell, dice: Random) -> Harm:
    """For a moment each connection is reset instead of its next reply."""
    cut = await cell.proxy.reset(dice.uniform(0.2, 1))
    return Harm(f"{cut} connections")
