"""What the driver submits itself: poison, and one evaluation after each fault that shows whether a lane wakes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from executor.errors import ExecutorError
from executor.keys import Keys
from executor.settings import Settings
from executor.streams.channel import Channel
from tests.chaos.history import Log, named, now
from tests.chaos.producer import LOOK_AGAIN, PATIENCE, Telling, request_of
from tests.chaos.programs import ATTEMPTS, Program, announced, plain_fields

_POLL = 0.05
FIRST = 1_000_000
"""Number of the first program of the driver's own."""


class Extras:
    """Submits and waits by XADD and HGETALL.

    Attributes:
        programs: what was submitted here.
    """

    def __init__(self, redis: Channel, settings: Settings, log: Log, started: Path, *, forgetful: bool) -> None:
        self._redis = redis
        self._forgetful = forgetful
        self._keys = Keys(settings.server.prefix)
        self._telling = Telling(log)
        self._started = str(started)
        self.programs: list[Program] = []
        self._number = FIRST

    def blank(self, word: str, tenant: str = "default") -> Program:
        """A program without code, under an id of its own."""
        self._number += 1
        evaluation_id = f"{word}-{self._number - FIRST}"
        return Program(self._number, evaluation_id, tenant, {}, frozenset({"succeeded"}), plain=True, kind=word)

    async def probe(self, tenant: str) -> str:
        """Run one evaluation; returns its name."""
        fields = {"code": "print('awake')", "max_attempts": ATTEMPTS}
        return await self.run(replace(self.blank("probe", tenant), fields=fields, prints="awake\n"))

    async def run(self, made: Program) -> str:
        """Submit a program and wait for its result; returns its name. Given up after PATIENCE: the checker sees it."""
        program = announced(made, self._started)
        self.programs.append(program)
        values = request_of(program)
        try:
            async with asyncio.timeout(PATIENCE):
                while not (flat := await self._result_of(program, values)):
                    self._telling.vanished(program, program.id)
        except TimeoutError:
            return named(program.tenant, program.id)
        facts = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
        told = facts["outcome"], int(facts.get("attempt", 0)), facts.get("stdout", "")
        self._telling.seen(program, program.id, program.id, *told)
        return named(program.tenant, program.id)

    async def _result_of(self, program: Program, values: Mapping[str, Any]) -> list[bytes]:
        """Send it and wait for its result; [] when the server does not know of it any more."""
        self._telling.tried(program, values)
        await self._insist("XADD", self._keys.requests(program.tenant), "*", *plain_fields(values))
        self._telling.accepted(program, program.id)
        looked = now()
        while not (flat := await self._insist("HGETALL", self._keys.result(program.tenant, program.id))):
            if self._forgetful and now() - looked > LOOK_AGAIN:
                looked = now()
                if not await self._insist("EXISTS", self._keys.record(program.tenant, program.id)):
                    return []
            await asyncio.sleep(_POLL)
        found: list[bytes] = flat
        return found

    async def _insist(self, *words: str) -> Any:
        while True:
            try:
                return await self._redis.call(*words)
            except ExecutorError:
                await asyncio.sleep(_POLL)
