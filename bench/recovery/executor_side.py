"""executor: a lease that a worker renews while it runs a job, and a dispatcher that looks for those that ran out."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from bench.peers import driver
from bench.recovery import job, side
from executor import __version__
from executor.client import Client
from executor.settings import load
from executor.streams.channel import Channel
from executor.streams.server import Cell

T = TypeVar("T")

CODE = Path(job.__file__).read_text()
POLICY = "tenants: {default: {trusted: true}}\n"
JOB_TIMEOUT = 120
"""Seconds that one attempt may take; more than any job does."""


class ExecutorSide(side.Side):
    """Speaks to executor through its client, and reads its stream of results."""

    def version(self) -> str:
        """Name the version."""
        return f"executor {__version__}"

    def knobs(self) -> list[tuple[str, str, str]]:
        """One timeout; the rest is as shipped."""
        return [
            ("EXECUTOR_LEASE, renewed while a job runs", "15 s", f"{self.plan.timeout} s"),
            ("EXECUTOR_JANITOR_INTERVAL", "1 s", f"{side.LOOK_EVERY_SECONDS} s"),
            ("EXECUTOR_MAX_ATTEMPTS", "3", "3"),
        ]

    def worker_command(self, number: int) -> list[str]:
        """Start the worker as a pod would."""
        return [sys.executable, "-m", "worker"]

    def helper_commands(self) -> list[list[str]]:
        """Start a dispatcher, through which all work comes."""
        return [[sys.executable, "-m", "cli.main", "dispatcher"]]

    def open(self) -> None:
        """Set what the programs are started with, and connect."""
        policy = Path("policy.yaml").absolute()
        policy.write_text(POLICY)
        own = {
            "REDIS_URL": driver.server_url(),
            "EXECUTOR_POLICY": str(policy),
            "EXECUTOR_SLOTS": str(self.plan.slots),
            "EXECUTOR_LEASE": str(self.plan.timeout),
            "EXECUTOR_JANITOR_INTERVAL": str(side.LOOK_EVERY_SECONDS),
            "EXECUTOR_HEALTH_PORT": "-1",
            "EXECUTOR_LOG_LEVEL": "error",
        }
        os.environ.update(own)  # noqa: TID251 for the programs
        self._loop = asyncio.new_event_loop()
        settings = load()
        cell = Cell(driver.server_url(), settings.server, settings.delivery)
        self._client = Client(settings=settings)
        self._results: Channel = cell.channel("results")
        self._stream = cell.keys.results()
        self._cursor = "0"

    def send(self, name: str, seconds: float) -> None:
        """Submit an evaluation."""
        arguments = [self.plan.notes, name, str(seconds)]
        self._run(self._client.submit(CODE, id=name, args=arguments, timeout=JOB_TIMEOUT, expected_duration=1))

    def look(self) -> None:
        """Read on in the stream that gets an entry for each result."""
        for entry_id, flat in self._run(self._results.call("XRANGE", self._stream, f"({self._cursor}", "+")):
            self._cursor = entry_id.decode()
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            counted = self.good if fields[b"outcome"] == b"succeeded" else self.bad
            counted[fields[b"id"].decode()] += 1

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(step)


if __name__ == "__main__":
    side.serve(ExecutorSide(side.Plan.read()))
