"""Celery: late acknowledgement; what is not acknowledged within the visibility timeout, another worker puts back."""

import json
import sys

import celery  # type: ignore[import-not-found]

from bench.peers import driver
from bench.recovery import side
from bench.recovery.job import run

PLAN = side.Plan.read()
KEY = "celery-task-meta-"

app = celery.Celery("bench", broker=driver.server_url(), backend=driver.server_url())
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    result_expires=side.RESULT_TTL_SECONDS,
    broker_transport_options={
        "visibility_timeout": PLAN.timeout,
        "unacked_restore_interval": side.LOOK_EVERY_SECONDS,
        "unacked_restore_throttle": 1,
    },
)
run_task = app.task(run, name="run")


class CelerySide(side.Side):
    """Speaks to Celery through its public client; a result is told to whoever subscribed to its key."""

    def version(self) -> str:
        """Name Celery's version."""
        return f"celery {celery.__version__}"

    def knobs(self) -> list[tuple[str, str, str]]:
        """What makes a job outlive its worker, and how soon."""
        return [
            ("task_acks_late, task_reject_on_worker_lost", "off", "on"),
            ("visibility_timeout, from delivery to acknowledgement", "3600 s", f"{self.plan.timeout} s"),
            ("unacked_restore_interval", "10 s", f"{side.LOOK_EVERY_SECONDS} s"),
            ("unacked_restore_throttle", "10", "1"),
            ("worker_prefetch_multiplier", "4", "1"),
        ]

    def worker_command(self, number: int) -> list[str]:
        """Start a worker as an operator would."""
        options = ["--pool", "prefork", "--concurrency", str(self.plan.slots), "--loglevel", "WARNING"]
        name = ["--hostname", f"worker{number}@%h"]
        return [sys.executable, "-m", "celery", "-A", "bench.recovery.celery_side", "worker", *options, *name]

    def open(self) -> None:
        """Hear of every result that is written."""
        self._told = app.backend.client.pubsub(ignore_subscribe_messages=True)
        self._told.psubscribe(f"{KEY}*")

    def send(self, name: str, seconds: float) -> None:
        """Send a task under the job's name."""
        run_task.apply_async((self.plan.notes, name, seconds), task_id=name)

    def look(self) -> None:
        """Take in what was published."""
        while (message := self._told.get_message()) is not None:
            meta = json.loads(message["data"])
            counted = self.good if meta["status"] == "SUCCESS" else self.bad
            counted[message["channel"].decode().removeprefix(KEY)] += 1


if __name__ == "__main__":
    side.serve(CelerySide(PLAN))
