"""Taskiq on a Redis stream: what is pending longer than the idle timeout is claimed by whoever reads something new."""

import asyncio
import sys
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any, TypeVar

import redis
import taskiq_redis  # type: ignore[import-not-found]

from bench.peers import driver
from bench.recovery import side
from bench.recovery.job import run

T = TypeVar("T")

PLAN = side.Plan.read()

broker = taskiq_redis.RedisStreamBroker(
    driver.server_url(),
    idle_timeout=PLAN.timeout * 1000,
    unacknowledged_lock_timeout=PLAN.timeout,
    xread_count=1,
).with_result_backend(taskiq_redis.RedisAsyncResultBackend(driver.server_url(), result_ex_time=side.RESULT_TTL_SECONDS))
run_task = broker.register_task(run, task_name="run")


class TaskiqSide(side.Side):
    """Speaks to Taskiq through its public client; the server tells of every result that is written."""

    def version(self) -> str:
        """Name the versions of Taskiq and its broker."""
        return f"taskiq {version('taskiq')} + taskiq-redis {version('taskiq-redis')}"

    def knobs(self) -> list[tuple[str, str, str]]:
        """What makes a job outlive its worker, and how soon."""
        return [
            ("--ack-type", "when_saved", "when_saved"),
            ("idle_timeout, from delivery to acknowledgement", "600 s", f"{self.plan.timeout} s"),
            ("unacknowledged_lock_timeout", "none", f"{self.plan.timeout} s"),
            ("xread_count", "100", "1"),
        ]

    def worker_command(self, number: int) -> list[str]:
        """Start a worker as an operator would."""
        options = ["--workers", "1", "--max-async-tasks", str(self.plan.slots), "--ack-type", "when_saved"]
        module = "bench.recovery.taskiq_side:broker"
        return [sys.executable, "-m", "taskiq", "worker", module, *options, "--log-level", "WARNING"]

    def open(self) -> None:
        """Declare the group before anything is sent: it begins at the stream's end."""
        self._loop = asyncio.new_event_loop()
        self._run(broker.startup())
        self._server = _connect()
        self._server.config_set("notify-keyspace-events", "E$")
        self._event = f"__keyevent@{self._server.connection_pool.connection_kwargs.get('db', 0)}__:set"
        self._told = self._server.pubsub(ignore_subscribe_messages=True)
        self._told.subscribe(self._event)
        self._names: set[str] = set()

    def send(self, name: str, seconds: float) -> None:
        """Send a task under the job's name."""
        self._names.add(name)
        self._run(run_task.kicker().with_task_id(name).kiq(self.plan.notes, name, seconds))

    def look(self) -> None:
        """Take in which results were written, and read them."""
        while (message := self._told.get_message()) is not None:
            name = message["data"].decode()
            if name in self._names:
                result = self._run(broker.result_backend.get_result(name))
                (self.bad if result.is_err else self.good)[name] += 1

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(step)


def _connect() -> Any:
    return redis.Redis.from_url(driver.server_url())


if __name__ == "__main__":
    side.serve(TaskiqSide(PLAN))
