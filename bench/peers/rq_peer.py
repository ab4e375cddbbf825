"""RQ: its forking worker, a process for each job, abandoned jobs retried, results awaited on their stream."""

import sys
from typing import Any

import redis
import rq  # type: ignore[import-not-found]

from bench.peers import driver
from bench.peers.tasks import echo

QUEUE = "bench"


def work() -> None:
    """Run RQ's worker with the job's module imported before the fork, as RQ's performance notes advise."""
    connection = redis.Redis.from_url(driver.server_url())
    rq.Worker([QUEUE], connection=connection).work(logging_level="WARNING")


class RqDriver(driver.Driver[Any]):
    """Speaks to RQ through its public client."""

    settings = "forking Worker, module imported before the fork, Retry(max=3); latest_result() blocks on a stream"

    def version(self) -> str:
        """Name RQ's version."""
        return f"rq {rq.VERSION}"

    def worker_command(self) -> list[str]:
        """Start the worker from this file."""
        return [sys.executable, "-m", "bench.peers.rq_peer", "worker"]

    def open(self) -> None:
        """Connect to the queue."""
        self._queue = rq.Queue(QUEUE, connection=redis.Redis.from_url(driver.server_url()))

    def enqueue(self, payload: str) -> Any:
        """Send a job."""
        return self._queue.enqueue(echo, payload, retry=rq.Retry(max=3), result_ttl=driver.RESULT_TTL_SECONDS)

    def wait(self, handle: Any) -> str:
        """Wait for the job's result entry."""
        result = handle.latest_result(timeout=int(driver.RESULT_SECONDS))
        if result is None:
            raise TimeoutError(f"no result within {driver.RESULT_SECONDS} s")
        if result.type != result.Type.SUCCESSFUL:
            raise RuntimeError(f"the job ended as {result.type}")
        return str(result.return_value)

    def is_done(self, handle: Any) -> bool:
        """Read the job's latest result entry."""
        return handle.latest_result() is not None


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        work()
    else:
        driver.serve(RqDriver())
