"""Every Job that is made, the ones included that KEDA's history limit removes before one looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.support.installation import Installation


@contextmanager
def every_job(installation: Installation) -> Iterator[set[str]]:
    """Names of all Jobs that are made meanwhile; the set fills as they come."""
    before = {job["metadata"]["name"] for job in installation.jobs()}
    names: set[str] = set()
    watch = installation.kubectl.start("get", "jobs", "--watch", "--output-watch-events", "-o", "name")

    def collect() -> None:
        assert watch.stdout is not None
        for line in watch.stdout:
            if "job.batch/" in line:
                names.add(line.split("job.batch/")[1].strip())
            names.difference_update(before)

    reader = threading.Thread(target=collect)
    reader.start()
    try:
        yield names
    finally:
        watch.terminate()
        reader.join()
        watch.communicate()
