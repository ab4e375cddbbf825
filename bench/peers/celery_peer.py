"""Celery: prefork with one process, late acknowledgement, results in Redis and heard by subscription."""

import sys
from typing import Any

import celery  # type: ignore[import-not-found]

from bench.peers import driver
from bench.peers.tasks import echo

app = celery.Celery("bench", broker=driver.server_url(), backend=driver.server_url())
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    result_expires=driver.RESULT_TTL_SECONDS,
)
echo_task = app.task(echo, name="echo")


class CeleryDriver(driver.Driver[Any]):
    """Speaks to Celery through its public client."""

    settings = "prefork 1, acks_late, reject_on_worker_lost, prefetch 1; result.get() by subscription"

    def version(self) -> str:
        """Name Celery's version."""
        return f"celery {celery.__version__}"

    def worker_command(self) -> list[str]:
        """Start the worker as an operator would."""
        options = ["--pool", "prefork", "--concurrency", "1", "--loglevel", "WARNING"]
        return [sys.executable, "-m", "celery", "-A", "bench.peers.celery_peer", "worker", *options]

    def enqueue(self, payload: str) -> Any:
        """Send a task."""
        return echo_task.delay(payload)

    def wait(self, handle: Any) -> str:
        """Wait for the message that says it is done."""
        return str(handle.get(timeout=driver.RESULT_SECONDS))

    def is_done(self, handle: Any) -> bool:
        """Ask the result."""
        return bool(handle.ready())


if __name__ == "__main__":
    driver.serve(CeleryDriver())
