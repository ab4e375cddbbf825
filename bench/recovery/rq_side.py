"""RQ: a worker's heartbeat for each job; a worker that cleans up retries the jobs whose heartbeat ran out."""

import sys
from typing import Any

import redis
import rq  # type: ignore[import-not-found]
import rq.worker_pool  # type: ignore[import-not-found]

from bench.peers import driver
from bench.recovery import side
from bench.recovery.job import run

QUEUE = "bench"
MONITORING_SECONDS = 1
"""Between two heartbeats of a job, each good for that and a minute more, which RQ has no knob for."""
WORKER_TTL_SECONDS = 16
"""An idle worker cleans up every `worker_ttl - 15` seconds."""


class Watchful(rq.Worker):  # type: ignore[misc]
    """RQ's forking worker, with the knobs that a pool has no options for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        chosen = {
            "worker_ttl": WORKER_TTL_SECONDS,
            "maintenance_interval": side.LOOK_EVERY_SECONDS,
            "job_monitoring_interval": MONITORING_SECONDS,
        }
        super().__init__(*arguments, **{**options, **chosen})


def work() -> None:
    """Run a pool of forking workers, the job's module imported before the fork."""
    connection = redis.Redis.from_url(driver.server_url())
    slots = side.Plan.read().slots
    rq.worker_pool.WorkerPool([QUEUE], connection, slots, worker_class=Watchful).start(logging_level="WARNING")


class RqSide(side.Side):
    """Speaks to RQ through its public client, and reads each job's stream of results."""

    def version(self) -> str:
        """Name RQ's version."""
        return f"rq {rq.VERSION}"

    def knobs(self) -> list[tuple[str, str, str]]:
        """What makes a job outlive its worker, and how soon."""
        return [
            ("Retry of a job", "none", "max=3"),
            ("job_monitoring_interval; a job is given up after it + 60 s", "30 s", f"{MONITORING_SECONDS} s"),
            ("maintenance_interval", "600 s", f"{side.LOOK_EVERY_SECONDS} s"),
            ("worker_ttl; an idle worker cleans up after it - 15 s", "420 s", f"{WORKER_TTL_SECONDS} s"),
        ]

    def worker_command(self, number: int) -> list[str]:
        """Start the pool from this file."""
        return [sys.executable, "-m", "bench.recovery.rq_side", "worker"]

    def open(self) -> None:
        """Connect to the queue."""
        self._redis = redis.Redis.from_url(driver.server_url())
        self._queue = rq.Queue(QUEUE, connection=self._redis)
        self._names: list[str] = []

    def send(self, name: str, seconds: float) -> None:
        """Send a job under its name."""
        arguments = (self.plan.notes, name, seconds)
        options = {"job_id": name, "retry": rq.Retry(max=3), "result_ttl": side.RESULT_TTL_SECONDS}
        self._queue.enqueue(run, args=arguments, **options)
        self._names.append(name)

    def look(self) -> None:
        """Read the streams, in one trip."""
        kinds = rq.results.Result.Type
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in self._names:
                pipeline.xrange(rq.results.Result.get_key(name))
            for name, entries in zip(self._names, pipeline.execute(), strict=True):
                types = [kinds(int(fields[b"type"])) for _, fields in entries]
                self.good[name] = types.count(kinds.SUCCESSFUL)
                self.bad[name] = len(types) - types.count(kinds.SUCCESSFUL) - types.count(kinds.RETRIED)


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        work()
    else:
        side.serve(RqSide(side.Plan.read()))
