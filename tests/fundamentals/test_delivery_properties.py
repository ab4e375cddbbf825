"""Claim, renew, commit, hand back, rescue and cancel in any order, on the real server, beside a model of them.

Whatever happens, an evaluation has one result at most, only a lease that stands can give it, and nothing that has none
is out of sight: it is in the lane, with a worker, or waiting for its next attempt.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cli.embedded import EmbeddedServer
from executor import codec
from executor.keys import DISPATCHERS, WORKERS
from executor.outcome import Outcome
from executor.result import EvaluationResult
from executor.streams.caller import Caller
from executor.streams.ingress import Admission, Ingress, IngressEntry
from executor.streams.lane import Lane, LaneEntry, Lease, Registration
from executor.streams.server import ensure_groups
from executor.streams.terminal import Destination
from executor.streams.waiting import Waiting
from tests.support import delivery_model as model
from tests.support.stack import Stack

LANE = "warm.python"
PLENTY = 1000
T = TypeVar("T")

workers = st.sampled_from(["w1", "w2"])
choice = st.integers(0, PLENTY)
outcomes = st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED])


class Deliveries(RuleBasedStateMachine):
    """Steps of dispatchers, workers, janitors and callers, each one script."""

    server: EmbeddedServer

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = model.Delivery()
        self.entries: dict[int, LaneEntry] = {}
        self.leases: list[tuple[Lease, model.Lease]] = []
        self.admitted = 0

    def run(self, awaitable: Awaitable[T]) -> T:
        async def inner() -> T:
            return await awaitable

        return self.loop.run_until_complete(inner())

    @initialize()
    def prepare(self) -> None:
        self.stack = Stack(self.server.url, f"t{secrets.token_hex(6)}")
        cell = self.stack.cell
        self.stream = cell.keys.lane(LANE)
        self.ingress = Ingress(cell, "d", ["default"])
        self.lanes = {name: Lane(cell, LANE, name) for name in ("w1", "w2")}
        self.caller, self.waiting = Caller(cell), Waiting(cell)
        self.run(self.ingress.ensure())
        self.run(ensure_groups(self.stack.redis, [self.stream], WORKERS))

    @rule(max_attempts=st.integers(1, 3))
    def admit(self, max_attempts: int) -> None:
        name = f"{self.admitted:03}"
        self.admitted += 1
        requests = self.stack.cell.keys.requests()
        entry_id = self.run(self.stack.add(code="pass"))
        self.run(self.stack.redis.call("XREADGROUP", "GROUP", DISPATCHERS, "d", "STREAMS", requests, ">"))
        entry, to = IngressEntry(requests, entry_id, {}), Destination("default", name)
        admission = Admission(entry, to, LANE, PLENTY, codec.encode({"code": "pass"}), "", max_attempts)
        assert self.run(self.ingress.carry_out([admission])) == [[b"admitted"]]
        self.model.admit(name, max_attempts)

    @rule(worker=workers)
    def read(self, worker: str) -> None:
        number = self.model.read(worker)
        found = self.run(self.lanes[worker].read(1, 1))
        assert [entry.id for entry in found] == ([] if number is None else [self.model.pending[number].name])
        if number is not None:
            self.entries[number] = found[0]

    @precondition(lambda self: self.entries)
    @rule(which=choice, worker=workers)
    def claim(self, which: int, worker: str) -> None:
        self.claim_of(sorted(self.entries)[which % len(self.entries)], worker)

    def claim_of(self, number: int, worker: str) -> None:
        expected = self.model.claim(number, worker)
        lease = self.run(self.lanes[worker].claim(self.entries[number]))
        assert (lease and (lease.generation, lease.attempt)) == (
            expected and (expected.generation, self.model.known[expected.name].attempt)
        )
        if lease is not None and expected is not None:
            self.leases.append((lease, expected))

    @precondition(lambda self: self.model.queue)
    @rule(worker=workers)
    def begin(self, worker: str) -> None:
        self.read(worker)
        self.claim_of(max(self.entries), worker)

    @precondition(lambda self: self.model.pending)
    @rule(which=choice)
    def a_worker_is_too_slow(self, which: int) -> None:
        """Its lease runs out, and another begins the next attempt while it still runs."""
        self.a_lease_runs_out(which)
        self.the_janitor_rescues()
        self.time_passes()
        if self.model.queue:
            self.begin("w2")

    @precondition(lambda self: any(self.model.pending.get(lease.entry) for _, lease in self.leases))
    @rule(which=choice)
    def a_worker_is_in_time_after_all(self, which: int) -> None:
        """Its lease runs out, and is renewed before a janitor looks."""
        held = [number for number, (_, lease) in enumerate(self.leases) if lease.entry in self.model.pending]
        number = held[which % len(held)]
        self.a_lease_runs_out(sorted(self.model.pending).index(self.leases[number][1].entry))
        self.renew(number)
        self.the_janitor_rescues()

    @precondition(lambda self: self.leases)
    @rule(which=choice)
    def renew(self, which: int) -> None:
        lease, expected = self.leases[which % len(self.leases)]
        registration = Registration("", "busy", 1, 1, "python", LANE)
        assert self.run(self.lanes[expected.worker].renew([lease], registration)) == [self.model.renew(expected)]

    @precondition(lambda self: self.leases)
    @rule(which=choice, outcome=outcomes)
    def commit(self, which: int, outcome: Outcome) -> None:
        lease, expected = self.leases[which % len(self.leases)]
        result = EvaluationResult(id=expected.name, outcome=outcome)
        committed, _ = self.run(
            self.lanes[expected.worker].commit(lease, Destination("default", expected.name), result)
        )
        assert committed == self.model.commit(expected, outcome)

    @precondition(lambda self: self.entries)
    @rule(which=choice, worker=workers)
    def hand_back_unstarted(self, which: int, worker: str) -> None:
        number = sorted(self.entries)[which % len(self.entries)]
        word = self.run(self.lanes[worker].release(self.entries[number], None))
        assert word == self.model.release(number, worker, None)

    @precondition(lambda self: self.leases)
    @rule(which=choice)
    def hand_back_started(self, which: int) -> None:
        lease, expected = self.leases[which % len(self.leases)]
        word = self.run(self.lanes[expected.worker].release(lease.entry, lease.generation))
        assert word == self.model.release(expected.entry, expected.worker, expected.generation)

    @precondition(lambda self: self.model.pending)
    @rule(which=choice)
    def a_lease_runs_out(self, which: int) -> None:
        number = sorted(self.model.pending)[which % len(self.model.pending)]
        held, entry = self.model.pending[number], self.entries[number]
        held.expired = True
        claim = ("XCLAIM", self.stream, WORKERS, held.worker, 0, entry.entry_id, "IDLE", 10**6, "JUSTID")
        self.run(self.stack.redis.call(*claim))

    @rule()
    def the_janitor_rescues(self) -> None:
        expired = self.run(self.stack.upkeep.expired(LANE, PLENTY))
        numbers = sorted(number for number, held in self.model.pending.items() if held.expired)
        assert [entry_id for entry_id, *_ in expired] == [self.entries[number].entry_id for number in numbers]
        for number, facts in zip(numbers, expired, strict=True):
            word, _ = self.run(self.stack.upkeep.rescue(LANE, *facts))
            assert word == self.model.rescue(number)

    @precondition(lambda self: self.model.known)
    @rule(which=choice)
    def cancel(self, which: int) -> None:
        name = sorted(self.model.known)[which % len(self.model.known)]
        assert self.run(self.caller.cancel("default", name))[0] == self.model.cancel(name)

    @rule()
    def time_passes(self) -> None:
        _, later = self.stack.cell.keys.waiting(LANE)
        for member in self.run(self.stack.redis.call("ZRANGE", later, 0, -1)):
            self.run(self.stack.redis.call("ZADD", later, 0, member))
        self.run(self.waiting.feed(LANE, PLENTY, PLENTY))
        self.model.time_passes()

    @rule()
    def tidy(self) -> None:
        self.run(self.stack.upkeep.tidy(self.stream, WORKERS))

    @invariant()
    def the_server_is_as_the_model(self) -> None:
        if not hasattr(self, "stack"):
            return
        view = self.run(self.stack.upkeep.view(LANE))
        assert (view.lag, view.pending) == (len(self.model.queue), len(self.model.pending))
        keys = self.stack.cell.keys
        results = [row["id"] for row in self.run(self.stack.stream(keys.results()))]
        assert results == self.model.results
        assert max(Counter(results).values(), default=0) <= 1
        assert [row["id"] for row in self.run(self.stack.stream(keys.dead()))] == self.model.dead
        for name, one in self.model.known.items():
            record = self.run(self.stack.hash(keys.record("default", name)))
            found = {field: record.get(field, "") for field in ("state", "attempt", "generation", "outcome", "owner")}
            assert found == {
                "state": one.state, "attempt": str(one.attempt), "generation": str(one.generation),
                "outcome": one.outcome, "owner": one.owner,
            }  # fmt: skip

    @invariant()
    def what_has_no_result_is_somewhere(self) -> None:
        sight = {name for _, name in self.model.queue} | {held.name for held in self.model.pending.values()}
        sight |= set(self.model.later)
        assert {name for name, one in self.model.known.items() if one.state != "done"} <= sight

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.run(self.empty())
            self.run(self.stack.close())
        self.loop.close()

    async def empty(self) -> None:
        """Remove what a run in the middle of its work leaves."""
        names: list[Any] = await self.stack.redis.call("KEYS", f"{self.stack.cell.keys.prefix}*")
        if names:
            await self.stack.redis.call("DEL", *names)


@pytest.mark.timeout(300)  # what fails is made small first
def test_deliveries_are_as_the_model_says(server: EmbeddedServer) -> None:
    machine: Any = type("OnThisServer", (Deliveries,), {"server": server})
    checks = list(HealthCheck)
    run_state_machine_as_test(
        machine, settings=settings(max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=checks)
    )
