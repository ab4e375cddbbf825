"""The scripts that order what waits before a lane, on the real server, beside a model of them."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.embedded import EmbeddedServer
from executor import codec
from executor.keys import DISPATCHERS, WORKERS
from executor.outcome import Outcome
from executor.result import EvaluationResult
from executor.streams.caller import Caller
from executor.streams.ingress import Admission, Ingress, IngressEntry
from executor.streams.lane import Lane
from executor.streams.quotas import Quota, Quotas
from executor.streams.server import ensure_groups
from executor.streams.terminal import Destination
from executor.streams.waiting import Waiting
from tests.support.line_model import Line
from tests.support.stack import Stack

LANE = "warm.python"
PLENTY = 1000

admission = st.tuples(st.integers(0, 2), st.sampled_from("abc"))
then = st.sampled_from(["", "", "", "finish", "finish", "cancel", "look"])
steps = st.lists(st.tuples(admission, then, st.integers(0, PLENTY)), min_size=25, max_size=50)
quotas = st.dictionaries(st.sampled_from("ab"), st.integers(1, 2))


class Real:
    """The scripts, called as the programs call them."""

    def __init__(self, stack: Stack, credit: int) -> None:
        self._stack = stack
        self._credit = credit
        self._ingress = Ingress(stack.cell, "d", ["default"])
        self._waiting = Waiting(stack.cell)
        self._caller = Caller(stack.cell)
        self._lane = stack.cell.keys.lane(LANE)
        self._worker = Lane(stack.cell, LANE, "w")

    async def prepare(self, limits: dict[str, int]) -> None:
        await self._ingress.ensure()
        await Quotas(self._stack.cell).publish({name: Quota(concurrency=most) for name, most in limits.items()})
        await ensure_groups(self._stack.redis, [self._lane], WORKERS)

    async def admit(self, priority: int, tenant: str, name: str) -> None:
        entry_id = await self._stack.add(code="pass")
        await self._stack.redis.call(
            "XREADGROUP", "GROUP", DISPATCHERS, "d", "STREAMS", self._stack.cell.keys.requests(), ">"
        )
        entry = IngressEntry(self._stack.cell.keys.requests(), entry_id, {})
        to = Destination(tenant, name)
        payload = codec.encode({"code": "pass"})
        answers = await self._ingress.carry_out(
            [Admission(entry, to, LANE, self._credit, payload, "", 3, priority + 1)]
        )
        assert answers == [[b"admitted"]]

    async def finish(self) -> None:
        """Read the next entry and end it, as a worker does."""
        (entry,) = await self._worker.read(1, 1000)
        lease = await self._worker.claim(entry)
        if lease is not None:
            result = EvaluationResult(id=entry.id, tenant=entry.tenant, outcome=Outcome.SUCCEEDED)
            assert await self._worker.commit(lease, Destination(entry.tenant, entry.id), result) == (True, [])

    async def look(self) -> None:
        """The janitor's pass."""
        await self._waiting.feed(LANE, self._credit, PLENTY)

    async def cancel(self, tenant: str, name: str) -> str:
        return (await self._caller.cancel(tenant, name))[0]

    async def let_in(self) -> list[str]:
        return [f"{row['tenant']}/{row['id']}" for row in await self._stack.stream(self._lane)]


async def follow(server: EmbeddedServer, credit: int, limits: dict[str, int], script: list[Any]) -> None:
    stack = Stack(server.url, f"t{secrets.token_hex(6)}")
    real, model = Real(stack, credit), Line(credit, limits)
    try:
        await real.prepare(limits)
        for number, ((priority, tenant), then, choice) in enumerate(script):
            name = f"{number:03}"
            await real.admit(priority, tenant, name)
            model.admit(priority, tenant, f"{tenant}/{name}")
            await take_step(real, model, then, choice)
            assert await real.let_in() == model.lane
        while model.open or model.queued:
            if model.open:
                await real.finish()
                model.finish()
            await take_step(real, model, "look", 0)
            assert await real.let_in() == model.lane
        *line, quotas_key = stack.cell.keys.line(LANE)
        assert await stack.redis.call("EXISTS", *line) == 0
        assert bool(await stack.redis.call("EXISTS", quotas_key)) == bool(limits)
    finally:
        await stack.redis.call("DEL", stack.cell.keys.quotas())
        await stack.close()


async def take_step(real: Real, model: Line, step: str, choice: int) -> None:
    """One step beside an admission, on both."""
    if step == "finish" and model.open:
        await real.finish()
        model.finish()
    elif step == "look":
        await real.look()
        model.look()
    elif step == "cancel":
        unread = [*model.queued, *(name for name in model.lane[model.done :] if name not in model.ended)]
        if unread:
            name = sorted(unread)[choice % len(unread)]
            assert await real.cancel(*name.split("/")) == "cancelled"
            model.cancel(name)


@pytest.mark.timeout(300)  # what fails is made small first
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(credit=st.integers(1, 4), limits=quotas, script=steps)
def test_the_scripts_let_in_what_the_model_does(
    server: EmbeddedServer, credit: int, limits: dict[str, int], script: list[Any]
) -> None:
    asyncio.run(follow(server, credit, limits, script))
