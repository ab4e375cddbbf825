"""Asks sentinels which server is the primary now: all at once, and the first that knows is believed.

One that is away must not cost the time it takes to notice; one that has not heard of a failover yet names a server
that says it is a replica, or is gone, and the next try asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from executor.errors import ExecutorError, NotAuthorized, ServerUnavailable
from executor.streams.address import HostPort

Ask = Callable[[HostPort], Awaitable[Any]]
"""Gets the reply of one sentinel: [host, port], or None where it does not know the service."""


async def find_primary(service: str, sentinels: Sequence[HostPort], ask: Ask) -> HostPort:
    """Host and port of the primary of a service.

    Raises:
        NotAuthorized: every sentinel refuses the credentials.
        ServerUnavailable: none of them names one; the message says what each of them said.
    """
    asking = {asyncio.create_task(_named_by(ask, one), name="ask-sentinel"): one for one in sentinels}
    failures: dict[HostPort, ExecutorError] = {}
    try:
        pending = set(asking)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    return task.result()
                except ExecutorError as error:
                    failures[asking[task]] = error
    finally:
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
    said = "; ".join(f"{host}:{port}: {failures[host, port]}" for host, port in sentinels)
    if all(isinstance(error, NotAuthorized) for error in failures.values()):
        raise NotAuthorized(f"the sentinels refuse: {said}; set sentinel_username and sentinel_password in REDIS_URL")
    raise ServerUnavailable(f"no sentinel names a primary of {service!r}: {said}")


async def _named_by(ask: Ask, sentinel: HostPort) -> HostPort:
    reply = await ask(sentinel)
    if reply is None:
        raise ServerUnavailable("it does not watch a service of this name")
    host, port = reply
    return host.decode(), int(port)
