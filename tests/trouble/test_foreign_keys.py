"""Every key that a script takes, holding something that is not ours: each transition goes on, or waits and heals."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from executor.errors import Unanswerable, WrongKeyType
from executor.outcome import Outcome, Reason
from executor.result import EvaluationResult
from executor.streams.lane import Lease
from executor.streams.terminal import Destination
from executor.tracing import now_ns
from tests.support.parts import LANE, Parts, succeeded
from tests.support.stack import Stack

ONCE = "key of the caller"


class Scene:
    """An evaluation `x` and a stranger under one of its keys."""

    def __init__(self, stack: Stack, credit: int = 256) -> None:
        self.stack = stack
        self.parts = Parts(stack, credit)
        keys = stack.cell.keys
        self.to = Destination("default", "x", keys.reply("me"), stream=True)
        high, normal, low, order, later, waiting, usage, quotas = keys.line(LANE)
        self.keys = {
            "record": keys.record("default", "x"), "result": keys.result("default", "x"), "results": keys.results(),
            "reply": self.to.reply_to, "output": keys.output("default", "x"), "ages": keys.ages(),
            "lane": keys.lane(LANE), "dead": keys.dead(), "high": high, "normal": normal, "low": low, "order": order,
            "later": later, "waiting": waiting, "usage": usage, "quotas": quotas,
            "once": keys.once("default", ONCE), "executors": keys.executors(),
            "heartbeat": keys.heartbeat("by-hand"), "ingress": keys.requests(),
        }  # fmt: skip

    async def ask(self, id: str = "x", **fields: str) -> None:
        """A request, in ingress."""
        asked = {"id": id, "code": "pass", "reply_to": self.to.reply_to, "stream": "1", "max_attempts": "2", **fields}
        words = [word for pair in asked.items() for word in pair]
        await self.stack.redis.call("XADD", self.keys["ingress"], "*", *words)

    async def admitted(self, **fields: str) -> None:
        await self.parts.prepare()
        await self.ask(**fields)
        await self.parts.take_in()

    async def running(self, **fields: str) -> Lease:
        await self.admitted(**fields)
        return await self.parts.claim()

    async def done(self, **fields: str) -> None:
        lease = await self.running(**fields)
        await self.parts.lane.commit(lease, self.to, succeeded(lease.entry))

    async def place(self, name: str) -> None:
        """Put something else in the place of a key."""
        await self.stack.redis.call("DEL", self.keys[name])
        kind = ("SADD", self.keys[name], "foreign") if name == "once" else ("SET", self.keys[name], "foreign")
        await self.stack.redis.call(*kind)
        await self.stack.redis.call("PEXPIRE", self.keys[name], 600_000)

    async def remove(self, name: str) -> None:
        await self.stack.redis.call("DEL", self.keys[name])


Transition = Callable[[Scene], Awaitable[Callable[[], Awaitable[object]]]]
"""Brings the evaluation to where the transition begins; returns the step that makes it."""


async def admit(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.parts.prepare()
    await scene.ask(idempotency_key=ONCE)
    return scene.parts.take_in


async def admit_later(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.parts.prepare()
    await scene.ask(not_before=str(now_ns() / 1e9 + 0.2))
    return scene.parts.take_in


async def duplicate(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.done()
    await scene.ask()
    return scene.parts.take_in


async def duplicate_by_key(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.done(idempotency_key=ONCE)
    await scene.ask("y", idempotency_key=ONCE)
    return scene.parts.take_in


async def reject(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.parts.prepare()
    await scene.ask(timeout="-1")
    return scene.parts.take_in


async def claim(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.admitted()
    (entry,) = await scene.parts.lane.read(1, 5000)
    return lambda: scene.parts.lane.claim(entry)


async def renew(scene: Scene) -> Callable[[], Awaitable[object]]:
    lease = await scene.running()
    return lambda: scene.parts.beat(lease)


async def emit(scene: Scene) -> Callable[[], Awaitable[object]]:
    lease = await scene.running()
    return lambda: scene.parts.lane.emit(lease, scene.to, [("stdout", "hello")])


async def commit(scene: Scene) -> Callable[[], Awaitable[object]]:
    lease = await scene.running()
    result = succeeded(lease.entry)
    return lambda: scene.parts.lane.commit(lease, scene.to, result, fetch=1, leave=True)


async def commit_lost(scene: Scene) -> Callable[[], Awaitable[object]]:
    lease = await scene.running(max_attempts="1")
    result = EvaluationResult(id="x", outcome=Outcome.LOST, error="its keeper ended")
    return lambda: scene.parts.lane.commit(lease, scene.to, result, output="the end")


async def release_unstarted(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.admitted()
    (entry,) = await scene.parts.lane.read(1, 5000)
    return lambda: scene.parts.lane.release(entry, None)


async def release(scene: Scene) -> Callable[[], Awaitable[object]]:
    lease = await scene.running()
    return lambda: scene.parts.lane.release(lease.entry, lease.generation)


async def release_the_last(scene: Scene) -> Callable[[], Awaitable[object]]:
    lease = await scene.running(max_attempts="1")
    return lambda: scene.parts.lane.release(lease.entry, lease.generation, to=scene.to)


async def rescue(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.running()
    return lambda: late(scene)


async def rescue_the_last(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.running(max_attempts="1")
    return lambda: late(scene)


async def rescue_unstarted(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.admitted()
    await scene.parts.lane.read(1, 5000)
    return lambda: late(scene)


async def late(scene: Scene) -> None:
    """A pass of the janitor behind the end of a lease; one more, in which what waits longer is due."""
    with suppress(WrongKeyType):
        await scene.stack.redis.call("XREADGROUP", "GROUP", "workers", "nobody", "STREAMS", scene.keys["lane"], ">")
    await scene.parts.janitor.pass_once()
    await scene.parts.janitor.pass_once()


async def expire(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.admitted(deadline=str(now_ns() / 1e9 + 0.1))
    return scene.parts.janitor.pass_once


async def cancel(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.admitted()
    return lambda: scene.stack.client.cancel("x")


async def cancel_in_the_line(scene: Scene) -> Callable[[], Awaitable[object]]:
    scene.parts = Parts(scene.stack, credit=1)
    await scene.parts.prepare()
    await scene.ask("y")
    await scene.ask()
    await scene.parts.take_in()
    return lambda: scene.stack.client.cancel("x")


async def cancel_running(scene: Scene) -> Callable[[], Awaitable[object]]:
    await scene.running()
    return lambda: scene.stack.client.cancel("x")


async def bury(scene: Scene) -> Callable[[], Awaitable[object]]:
    lease = await scene.running()
    return lambda: scene.parts.lane.bury(lease.entry, Reason.CORRUPT, "unreadable")


async def redrive(scene: Scene) -> Callable[[], Awaitable[object]]:
    lease = await scene.running(max_attempts="1")
    result = EvaluationResult(id="x", outcome=Outcome.LOST, error="its keeper ended")
    await scene.parts.lane.commit(lease, scene.to, result)
    (letter,) = await scene.stack.client.dead_letters()
    return lambda: scene.stack.client.redrive(letter)


async def look_after(scene: Scene) -> Callable[[], Awaitable[object]]:
    """Feed, skip, tidy, reap, forget."""
    await scene.admitted()
    await scene.parts.beat(Lease((await scene.parts.lane.read(1, 5000))[0], 0, 0, 0, b""))
    await scene.ask("y")
    await scene.parts.take_in()
    await scene.stack.client.cancel("y")
    return scene.parts.janitor.pass_once


async def leave(scene: Scene) -> Callable[[], Awaitable[object]]:
    lease = await scene.running()
    await scene.parts.beat(lease)
    return scene.parts.lane.leave


TRANSITIONS = (
    admit, admit_later, duplicate, duplicate_by_key, reject, claim, renew, emit, commit, commit_lost, release_unstarted,
    release, release_the_last, rescue, rescue_the_last, rescue_unstarted, expire, cancel, cancel_in_the_line,
    cancel_running, bury, redrive, look_after, leave,
)  # fmt: skip
OWN = ("record", "result", "reply", "output")
SHARED = ("results", "ages", "lane", "dead")
LINE = ("high", "normal", "low", "order", "later", "waiting", "usage", "quotas")
IN_THE_LINE = (admit, admit_later, commit, release, rescue, expire, cancel, cancel_in_the_line, redrive, look_after)
OTHERS = {
    "once": (admit, duplicate_by_key),
    "ingress": (admit, duplicate, duplicate_by_key, reject),
    "executors": (renew, look_after, leave),
    "heartbeat": (renew, expire, look_after, leave),
}
CASES = [
    *((transition, key) for transition in TRANSITIONS for key in (*OWN, *SHARED)),
    *((transition, key) for transition in IN_THE_LINE for key in LINE),
    *((transition, key) for key, transitions in OTHERS.items() for transition in transitions),
]
WAITS = (*SHARED, *LINE, "executors", "ingress")
"""Keys of many: a step may refuse to be made while they hold something else."""


@pytest.fixture
async def hasty(stack: Stack) -> AsyncIterator[Stack]:
    """Leases run out as soon as they may, and so does the life of what waits."""
    variables = {"EXECUTOR_LEASE": "0.3", "EXECUTOR_MAX_AGE": "1", "EXECUTOR_CREDIT": "1"}
    running = Stack(stack.cell.url, stack.cell.keys.prefix, **variables)
    yield running
    await running.close()


async def refused(step: Callable[[], Awaitable[object]]) -> str:
    """Make a step; what it says when it cannot be made, which is the kind of error that programs live through."""
    try:
        await step()
    except (WrongKeyType, Unanswerable) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("transition", "key"), CASES)
async def test_an_evaluation_ends_once_whatever_its_keys_hold(hasty: Stack, transition: Transition, key: str) -> None:
    scene = Scene(hasty)
    step = await transition(scene)
    before = Counter(await scene.parts.answers())
    await scene.place(key)

    refusal = await refused(step)
    assert not refusal or key in (*WAITS, "record", "output"), refusal
    assert await hasty.redis.call("TYPE", scene.keys[key]) != b"none" or key == "heartbeat"
    meanwhile = Counter() if key in ("results", "dead") else Counter(await scene.parts.answers())
    if key != "record":  # whoever puts something there has destroyed it; removed as well, nothing tells of it
        await scene.remove(key)

    if key == "ingress" and "x" not in before and not await hasty.redis.call("EXISTS", scene.keys["record"]):
        return  # the request went with the stream that it was in
    await scene.parts.bring_to_an_end(scene.to, {"x"} - set(before) - set(meanwhile))
    ended = Counter(await scene.parts.answers())
    if key == "results" and (before["x"] or meanwhile["x"]):
        ended["x"] += 1  # its entry went with the stream that it was in
    assert ended["x"] == 1, ended
    await scene.parts.lane.leave()
