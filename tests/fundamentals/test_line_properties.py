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
from executor.streams.caller import Caller
from executor.streams.ingress import Admission, Ingress, IngressEntry
from executor.streams.server import ensure_groups
from executor.streams.terminal import Destination
from executor.streams.waiting import Waiting
from tests.support.line_model import Line
from tests.support.stack import Stack

LANE = "warm.python"
PLENTY = 1000

admission = st.tuples(st.integers(0, 2), st.sampled_from("abc"))
steps = st.lists(st.tuples(admission, st.sampled_from(["", "", "", "finish", "cancel"])), min_size=25, max_size=50)


class Real:
    """The scripts, called as the programs call them."""

    def __init__(self, stack: Stack, credit: int) -> None:
        self._stack = stack
        self._credit = credit
        self._ingress = Ingress(stack.cell, "d", [stack.cell.keys.requests()])
        self._waiting = Waiting(stack.cell)
        self._caller = Caller(stack.cell)
        self._lane = stack.cell.keys.lane(LANE)

    async def prepare(self) -> None:
        await self._ingress.ensure()
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
        """Read and acknowledge the next entry, as a worker that was given a result."""
        reply: Any = await self._stack.redis.call(
            "XREADGROUP", "GROUP", WORKERS, "w", "COUNT", 1, "STREAMS", self._lane, ">"
        )
        await self._stack.redis.call("XACK", self._lane, WORKERS, reply[0][1][0][0])
        await self._waiting.feed(LANE, self._credit, PLENTY)

    async def cancel(self, tenant: str, name: str) -> str:
        return (await self._caller.cancel(tenant, name))[0]

    async def let_in(self) -> list[str]:
        return [f"{row['tenant']}/{row['id']}" for row in await self._stack.stream(self._lane)]


async def follow(server: EmbeddedServer, credit: int, script: list[tuple[tuple[int, str], str]]) -> None:
    stack = Stack(server.url, f"t{secrets.token_hex(6)}")
    real, model = Real(stack, credit), Line(credit)
    try:
        await real.prepare()
        for number, ((priority, tenant), then) in enumerate(script):
            name = f"{number:03}"
            await real.admit(priority, tenant, name)
            model.admit(priority, tenant, f"{tenant}/{name}")
            if then == "finish":
                await real.finish()
                model.finish()
            elif then == "cancel" and any(model.waiting):
                member = min(min(line) for line in model.waiting if line)[1]
                assert await real.cancel(*member.split("/")) == "cancelled"
                model.cancel(member)
            assert await real.let_in() == model.lane
        while model.open:
            await real.finish()
            model.finish()
            assert await real.let_in() == model.lane
        assert await stack.redis.call("EXISTS", *stack.cell.keys.line(LANE)) == 0
    finally:
        await stack.close()


@pytest.mark.timeout(300)  # what fails is made small first
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(credit=st.integers(1, 4), script=steps)
def test_the_scripts_let_in_what_the_model_does(server: EmbeddedServer, credit: int, script: list[Any]) -> None:
    asyncio.run(follow(server, credit, script))
