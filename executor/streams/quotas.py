"""What each tenant may have at once, where the scripts that admit and feed look it up (lua/lib/quota.lua)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from executor.streams.channel import Command
from executor.streams.scripts import run, script
from executor.streams.server import Cell

_FIELDS: Final = ("backlog", "concurrency", "rate", "burst")
_STATE: Final = "tat"
"""Written by the scripts: until when a tenant's rate is used up."""
_KEPT_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Quota:
    """One tenant's limits; None: none."""

    backlog: int | None = None
    """Evaluations that have not ended."""
    concurrency: int | None = None
    """Of these, in lanes: admitted, or running."""
    rate: float | None = None
    """Evaluations a second."""
    burst: int | None = None
    """How many may come at once when the rate was not used before; None: one second's worth."""


class Quotas:
    """The quotas of one cell. Dispatchers write them again and again: a server that was emptied has none."""

    def __init__(self, cell: Cell) -> None:
        self._keys = cell.keys
        self._key = cell.keys.quotas()
        self._channel = cell.channel("quotas")
        self._swept_to = b""

    async def publish(self, quotas: Mapping[str, Quota]) -> None:
        """Make these the quotas that hold from now on, for these tenants and no other.

        The server is given the script that heeds them too, because callers may run it, but send none.
        """
        wanted = {name: value for tenant, quota in quotas.items() for name, value in _flat(tenant, quota)}
        states = {f"{tenant}/{_STATE}" for tenant in quotas}
        known = [name.decode() for name in await self._channel.call("HKEYS", self._key)]
        gone = [name for name in known if name not in wanted and name not in states]
        commands: list[Command] = [("SCRIPT", "LOAD", script("enqueue").source)]
        if gone:
            commands.append(("HDEL", self._key, *gone))
        if wanted:
            commands.append(("HSET", self._key, *(word for pair in wanted.items() for word in pair)))
            commands.append(("PEXPIRE", self._key, _KEPT_MS))
        for future in await self._channel.pipeline(commands):
            await future

    async def sweep(self, most: int) -> int:
        """Look at the next `most` marks of usage, and take those out that nothing is behind; returns how many."""
        start = b"(" + self._swept_to if self._swept_to else b"-"
        command = ("ZRANGE", self._keys.usage(), start, "+", "BYLEX", "LIMIT", 0, most)
        marks: list[bytes] = await self._channel.call(*command)
        self._swept_to = marks[-1] if len(marks) == most else b""
        names = [tuple(mark.decode("utf-8", "replace").split("/", 2)[1:]) for mark in marks]
        ours = sorted({(name[0], name[1]) for name in names if len(name) == 2})
        if not ours:
            return 0
        keys = [self._keys.usage(), *(self._keys.record(*name) for name in ours)]
        return int(await run(self._channel, "sweep", keys, [word for name in ours for word in name]))


def _flat(tenant: str, quota: Quota) -> list[tuple[str, int | float]]:
    burst = quota.burst if quota.burst is not None or quota.rate is None else max(1, int(quota.rate))
    values = (quota.backlog, quota.concurrency, quota.rate, burst)
    return [(f"{tenant}/{name}", value) for name, value in zip(_FIELDS, values, strict=True) if value is not None]
