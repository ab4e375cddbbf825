"""executor itself: one slot of a warm pool, a fresh isolated child per evaluation, the result on a reply stream."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from bench.peers import driver
from executor import __version__
from executor.client import Client, Handle

T = TypeVar("T")

ECHO = "import sys; sys.stdout.write(sys.stdin.read())"
POLICY = "tenants: {default: {trusted: true}}\n"


class ExecutorDriver(driver.Driver[Handle]):
    """Speaks to executor through its client, on one loop of its own."""

    settings = "1 slot, a fresh process per evaluation, lease 15 s; dispatcher beside it; result by reply stream"

    def version(self) -> str:
        """Name the version."""
        return f"executor {__version__}"

    def worker_command(self) -> list[str]:
        """Start the worker as a pod would."""
        return [sys.executable, "-m", "worker"]

    def helper_commands(self) -> list[list[str]]:
        """Start a dispatcher, through which all work comes."""
        return [[sys.executable, "-m", "cli.main", "dispatcher"]]

    def open(self) -> None:
        """Set what the programs are started with, and connect."""
        policy = Path("policy.yaml").absolute()
        policy.write_text(POLICY)
        own = {"REDIS_URL": driver.server_url(), "EXECUTOR_SLOTS": "1", "EXECUTOR_HEALTH_PORT": "-1"}
        os.environ.update(own, EXECUTOR_LOG_LEVEL="error", EXECUTOR_POLICY=str(policy))  # noqa: TID251 for the children
        self._loop = asyncio.new_event_loop()
        self._client = Client()

    def enqueue(self, payload: str) -> Handle:
        """Submit an evaluation."""
        return self._run(self._submit([payload]))[0]

    def wait(self, handle: Handle) -> str:
        """Wait for its result."""
        return self._run(self._wait(handle))

    def is_done(self, handle: Handle) -> bool:
        """Ask once."""
        return self._run(self._client.result(handle.id)) is not None

    def roundtrip(self, payload: str) -> str:
        """Submit and wait in one go, so that the loop is entered once."""
        return self._run(self._roundtrip(payload))

    def preload(self, payload: str, count: int) -> list[Handle]:
        """Submit one at a time, as the others do."""
        return self._run(self._preload(payload, count))

    async def _roundtrip(self, payload: str) -> str:
        return await self._wait((await self._submit([payload]))[0])

    async def _preload(self, payload: str, count: int) -> list[Handle]:
        return [handle for _ in range(count) for handle in await self._submit([payload])]

    async def _submit(self, payloads: list[str]) -> list[Handle]:
        return await self._client.submit_many(
            [{"code": ECHO, "stdin": text} if text else {"code": "pass"} for text in payloads]
        )

    async def _wait(self, handle: Handle) -> str:
        return (await handle.wait(driver.RESULT_SECONDS)).stdout

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(step)


if __name__ == "__main__":
    driver.serve(ExecutorDriver())
