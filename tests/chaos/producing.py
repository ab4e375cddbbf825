"""The two ways of submitting: the Python client, and XADD on a socket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from executor.client import Client, Handle
from executor.keys import Keys
from executor.result import EvaluationResult
from executor.settings import Settings
from tests.chaos.producer import LOOK_AGAIN, PATIENCE, WINDOW, Share, Telling, insist, request_of
from tests.chaos.programs import Program, plain_fields
from tests.chaos.resp import Refused, Wire, primary_of

_BATCHES = (1, 1, 2, 5, 20)
_POLL = 0.2
_WAIT_MS = 500


async def with_client(share: Share, telling: Telling, settings: Settings) -> None:
    """Submit in batches through clients, one for each tenant, and wait for each handle."""
    tenants = sorted({program.tenant for program in share.todo})
    clients = {tenant: Client(tenant=tenant, settings=settings) for tenant in tenants}
    room = asyncio.Semaphore(WINDOW)
    async with asyncio.TaskGroup() as group:
        for batch in _batches(share):
            client = clients[batch[0].tenant]
            await share.gate.pass_(batch[-1].number)
            for _ in batch:
                await room.acquire()
            group.create_task(_submit(client, batch, share, telling, room))
    for client in clients.values():
        await client.close()


def _batches(share: Share) -> Iterator[list[Program]]:
    """Neighbours of one tenant, some alone and some together."""
    batch: list[Program] = []
    size = 1
    for program in share.todo:
        if program.number in share.seen:
            continue
        if batch and (program.tenant != batch[0].tenant or len(batch) >= size):
            yield batch
            batch, size = [], _BATCHES[program.number % len(_BATCHES)]
        batch.append(program)
    if batch:
        yield batch


async def _submit(
    client: Client, batch: list[Program], share: Share, telling: Telling, room: asyncio.Semaphore
) -> None:
    new = [program for program in batch if program.number not in share.accepted]
    ids = dict(share.accepted)
    if new:
        handles = await insist(lambda: _send(client, new, telling))
        for program, handle in zip(new, handles, strict=True):
            ids[program.number] = handle.id  # the first one's, where its key was used before
            telling.accepted(program, handle.id)
    ends = (_see_to_its_end(client, one, ids[one.number], telling, room, forgetful=share.forgetful) for one in batch)
    await asyncio.gather(*ends)


async def _send(client: Client, batch: list[Program], telling: Telling) -> list[Handle]:
    requests = [request_of(program) for program in batch]
    for program, values in zip(batch, requests, strict=True):
        telling.tried(program, values)
    return await client.submit_many(requests)


async def _see_to_its_end(
    client: Client, program: Program, evaluation_id: str, telling: Telling, room: asyncio.Semaphore, *, forgetful: bool
) -> None:
    try:
        if program.times_sent > 1:
            await insist(lambda: _send(client, [program], telling))
            telling.accepted(program, program.id, again=True)
        if program.cancel_after is not None:
            await asyncio.sleep(program.cancel_after)
            answer, more = await insist(Handle(client, evaluation_id, streams=False).cancel)
            telling.cancelled(program, answer, more)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                result = await _result_of(client, program, evaluation_id, telling, forgetful=forgetful)
                telling.seen(program, evaluation_id, result.id, result.outcome, result.attempt, result.stdout)
    finally:
        room.release()


async def _result_of(
    client: Client, program: Program, evaluation_id: str, telling: Telling, *, forgetful: bool
) -> EvaluationResult:
    """Wait; where the server may forget, ask now and then whether it still knows the request, or send it again."""
    while True:
        try:
            return await insist(partial(client.wait, evaluation_id, LOOK_AGAIN if forgetful else None))
        except TimeoutError:
            if not await insist(partial(client.state, evaluation_id)):
                telling.vanished(program, evaluation_id)
                (handle,) = await insist(lambda: _send(client, [program], telling))
                evaluation_id = handle.id
                telling.accepted(program, evaluation_id)


async def with_wire(share: Share, telling: Telling, settings: Settings) -> None:
    """Add with XADD, one at a time on each connection, and look for the result where it is promised to be."""
    queue = [program for program in share.todo if program.number not in share.seen][::-1]
    keys = Keys(settings.server.prefix)
    async with asyncio.TaskGroup() as group:
        for _ in range(WINDOW // 3):
            group.create_task(_work(queue, share, telling, settings, keys))


async def _work(queue: list[Program], share: Share, telling: Telling, settings: Settings, keys: Keys) -> None:
    while queue:
        program = queue.pop()
        await share.gate.pass_(program.number)
        evaluation_id = share.accepted.get(program.number, "")
        values = request_of(program)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        async with Wire(await primary_of(settings.server.url), settings.server.reply_timeout) as wire:
                            if not evaluation_id:
                                evaluation_id = await _add(wire, program, values, telling, keys, share)
                            if await _look(wire, program, evaluation_id, telling, keys, share):
                                break
                            evaluation_id = ""
                    except (OSError, Refused):  # a timeout of the wire is an OSError too
                        await asyncio.sleep(random.uniform(0.05, 0.5))


async def _add(
    wire: Wire, program: Program, values: dict[str, object], telling: Telling, keys: Keys, share: Share
) -> str:
    """XADD; where there is a replica, accepted means that WAIT says that it has it, if it is there."""
    evaluation_id = program.id
    for again in range(program.times_sent):
        telling.tried(program, values)
        entry: bytes = await wire.call("XADD", keys.requests(program.tenant), "*", *plain_fields(values))
        evaluation_id = program.id or entry.decode()
        replicated = share.guarded and await wire.call("WAIT", 1, _WAIT_MS) > 0
        telling.accepted(program, evaluation_id, again=bool(again), replicated=replicated)
    return evaluation_id


async def _look(wire: Wire, program: Program, evaluation_id: str, telling: Telling, keys: Keys, share: Share) -> bool:
    """HGETALL of the result until it is there; of the first use's, if its key was used before.

    Returns:
        False when the server does not know of the request any more.
    """
    looked, looks = evaluation_id, 0
    while True:
        flat = await wire.call("HGETALL", keys.result(program.tenant, looked))
        if flat:
            facts = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
            told = facts["outcome"], int(facts.get("attempt", 0)), facts.get("stdout", "")
            telling.seen(program, evaluation_id, looked, *told)
            return True
        looks += 1
        if share.forgetful and looks * _POLL > LOOK_AGAIN:
            if not await wire.call("EXISTS", keys.record(program.tenant, evaluation_id)):
                telling.vanished(program, evaluation_id)
                return False
            looks = 0
        first = await wire.call("HGET", keys.record(program.tenant, evaluation_id), "duplicate_of")
        looked = first.decode() if first else evaluation_id
        await asyncio.sleep(_POLL)
