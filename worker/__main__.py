"""`python -m worker`: the worker program, configured by its environment alone.

Imports are in the order that gets a child ready soonest: the zygote boots while the Redis client is imported.
"""

from __future__ import annotations

import sys

from executor.errors import ExecutorError
from executor.settings import Settings, cpu_limit, load


def main(settings: Settings) -> int:
    """Run a worker to its end; returns the exit status."""
    from executor.logs import set_up  # noqa: PLC0415
    from worker.attempt import default_rlimits  # noqa: PLC0415
    from worker.keepers import Keepers  # noqa: PLC0415

    set_up(settings.telemetry)
    slots = 1 if settings.worker.mode == "one-shot" else settings.worker.slots or cpu_limit()
    # A one-shot worker needs the one child; a pool has a spare beyond its slots.
    keepers = Keepers(
        slots + (settings.worker.mode != "one-shot"), default_rlimits(settings.limits), settings.worker.scratch
    )
    try:
        import asyncio  # noqa: PLC0415

        from worker.service import Worker  # noqa: PLC0415

        async def serve() -> int:
            try:
                return await Worker(settings, keepers).run()
            finally:
                keepers.disconnect()

        return asyncio.run(serve())
    finally:
        keepers.close()


if __name__ == "__main__":
    try:
        sys.exit(main(load()))
    except ExecutorError as problem:
        print(f"worker: {problem}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
