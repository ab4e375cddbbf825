"""A real dispatcher and real workers on a real server, under a prefix of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from dispatcher.policy import Policy, trusting_policy
from dispatcher.service import Dispatcher
from dispatcher.surroundings import Surroundings
from executor.client import Client
from executor.settings import Settings, load
from executor.streams.channel import Channel
from executor.streams.server import Cell
from executor.streams.upkeep import Upkeep
from tests.support.wait import wait_until


class Stack:
    """Programs and connections of one test.

    Attributes:
        environ: variables that every program here is started with.
        settings: the same, loaded.
        cell: the test's prefix.
        redis: a connection for looking and for meddling.
        client: a Python client.
    """

    def __init__(self, url: str, prefix: str, **variables: str) -> None:
        self.environ = {
            "PATH": os.environ["PATH"],  # noqa: TID251
            "REDIS_URL": url,
            "EXECUTOR_PREFIX": prefix,
            "EXECUTOR_HEALTH_PORT": "0",
            "EXECUTOR_HEALTH_HOST": "127.0.0.1",
            "EXECUTOR_SLOTS": "2",
            "EXECUTOR_LOG": "json",
            **variables,
        }
        self.settings: Settings = load(self.environ)
        self.cell = Cell(url, self.settings.server, self.settings.delivery)
        self.redis: Channel = self.cell.channel("test")
        self.upkeep = Upkeep(self.cell)
        self.client = Client(url, settings=self.settings)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._dispatchers: list[tuple[Dispatcher, asyncio.Task[None]]] = []

    async def dispatcher(self, policy: Policy | None = None, surroundings: Surroundings | None = None) -> Dispatcher:
        """Start a dispatcher in this process."""
        program = Dispatcher(self.settings, policy or trusting_policy(), surroundings)
        self._dispatchers.append((program, asyncio.create_task(program.run())))
        await asyncio.wait_for(program.ready.wait(), 20)
        return program

    async def worker(self, wait: bool = True, **variables: str) -> subprocess.Popen[bytes]:
        """Start a worker process; by default wait until it is registered."""
        name = f"worker-{len(self.workers)}"
        environ = {**self.environ, "EXECUTOR_ID": name, **variables}
        process = subprocess.Popen([sys.executable, "-m", "worker"], env=environ, stderr=subprocess.PIPE)
        self.workers.append(process)
        if wait:
            await wait_until(lambda: self.registered(environ["EXECUTOR_ID"]), f"{environ['EXECUTOR_ID']} is registered")
        return process

    async def registered(self, name: str) -> bool:
        """Whether a worker is registered and alive."""
        return any(one.id == name and one.alive for one in await self.upkeep.executors())

    async def gone(self, name: str) -> bool:
        """Whether nothing is registered under a name any more."""
        return all(one.id != name for one in await self.upkeep.executors())

    async def add(self, stream: str | None = None, **fields: str | bytes) -> str:
        """XADD plain fields to ingress, as any language would; returns the entry id."""
        words = [word for pair in fields.items() for word in pair]
        entry: bytes = await self.redis.call("XADD", stream or self.cell.keys.requests(), "*", *words)
        return entry.decode()

    async def result(self, evaluation_id: str, tenant: str = "default", seconds: float = 20.0) -> dict[str, str]:
        """The readable result, by HGETALL, as soon as it is there."""
        found: dict[str, str] = {}

        async def there() -> bool:
            found.update(await self.hash(self.cell.keys.result(tenant, evaluation_id)))
            return bool(found)

        await wait_until(there, f"a result of {evaluation_id}", seconds)
        return found

    async def has_state(self, evaluation_id: str, state: str) -> bool:
        """Whether an evaluation is `queued`, `running` or `done`."""
        return (await self.hash(self.cell.keys.record("default", evaluation_id))).get("state") == state

    async def hash(self, key: str) -> dict[str, str]:
        """HGETALL as text."""
        flat = await self.redis.call("HGETALL", key)
        texts = [item.decode("utf-8", "replace") for item in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    async def stream(self, key: str) -> list[dict[str, str]]:
        """Every entry of a stream as text."""
        rows: list[Any] = await self.redis.call("XRANGE", key, "-", "+")
        return [
            dict(zip((texts := [word.decode() for word in flat])[::2], texts[1::2], strict=True)) for _, flat in rows
        ]

    async def close(self) -> None:
        """End everything, in the order a person would."""
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.workers:
            await asyncio.to_thread(process.communicate)
        for program, task in self._dispatchers:
            if not task.done():
                program.stop()
            await asyncio.wait([task], timeout=20)
        await self.client.close()
        await self.cell.close()


def process_exists(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
