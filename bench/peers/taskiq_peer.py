"""Taskiq on a Redis stream: one process, one task at a time, acknowledged when saved, the result polled for."""

import asyncio
import sys
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any, TypeVar

import redis.asyncio
import taskiq_redis  # type: ignore[import-not-found]
import uvloop  # type: ignore[import-not-found]

from bench.peers import driver
from bench.peers.tasks import echo

T = TypeVar("T")


async def echo_async(payload: str) -> str:
    """Be a coroutine, which Taskiq runs on its loop without a thread."""
    return echo(payload)


broker = taskiq_redis.RedisStreamBroker(driver.server_url()).with_result_backend(
    taskiq_redis.RedisAsyncResultBackend(driver.server_url(), result_ex_time=driver.RESULT_TTL_SECONDS)
)
echo_task = broker.register_task(echo_async, task_name="echo")


class TaskiqDriver(driver.Driver[Any]):
    """Speaks to Taskiq through its public client, on one loop of its own."""

    settings = "1 process, 1 task at a time, uvloop, ack when_saved; result asked for without pause"

    def version(self) -> str:
        """Name the versions of Taskiq and its broker."""
        return f"taskiq {version('taskiq')} + taskiq-redis {version('taskiq-redis')}"

    def worker_command(self) -> list[str]:
        """Start the worker as an operator would."""
        options = ["--workers", "1", "--max-async-tasks", "1", "--ack-type", "when_saved", "--log-level", "WARNING"]
        return [sys.executable, "-m", "taskiq", "worker", "bench.peers.taskiq_peer:broker", *options]

    def open(self) -> None:
        """Declare the group before anything is sent: it begins at the stream's end."""
        self._loop = uvloop.new_event_loop()
        self._run(broker.startup())

    def enqueue(self, payload: str) -> Any:
        """Send a task."""
        return self._run(echo_task.kiq(payload))

    def wait(self, handle: Any) -> str:
        """Ask until the result is there."""
        return self._run(self._wait(handle))

    def is_done(self, handle: Any) -> bool:
        """Ask once."""
        return bool(self._run(handle.is_ready()))

    def roundtrip(self, payload: str) -> str:
        """Send and wait in one go, so that the loop is entered once."""
        return self._run(self._roundtrip(payload))

    def preload(self, payload: str, count: int) -> list[Any]:
        """Send all in one go."""
        return self._run(self._preload(payload, count))

    def tidy(self) -> None:
        """Trim the stream, which the broker never does by default."""
        self._run(self._trim())

    async def _roundtrip(self, payload: str) -> str:
        return await self._wait(await echo_task.kiq(payload))

    async def _preload(self, payload: str, count: int) -> list[Any]:
        return [await echo_task.kiq(payload) for _ in range(count)]

    async def _wait(self, handle: Any) -> str:
        async with asyncio.timeout(driver.RESULT_SECONDS):
            while not await handle.is_ready():
                self.polls += 1
                # Taskiq's client can only ask. Any interval would be measured along with the system (its default is
                # 200 ms, and 1 ms adds another), so it asks again at once; the core it shares with the server is idle.
                await asyncio.sleep(0)
            result = await handle.get_result()
        result.raise_for_error()
        return str(result.return_value)

    async def _trim(self) -> None:
        async with redis.asyncio.Redis(connection_pool=broker.connection_pool) as connection:
            await connection.xtrim(broker.queue_name, maxlen=0, approximate=False)

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        result: T = self._loop.run_until_complete(step)
        return result


if __name__ == "__main__":
    driver.serve(TaskiqDriver())
