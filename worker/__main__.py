"""`python -m worker`: the worker program, configured by its environment alone.

Imports are in the order that gets a child ready soonest: the zygote boots while the Redis client is imported.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from executor.errors import ExecutorError
from executor.settings import Settings, cpu_limit, load

if TYPE_CHECKING:
    from worker.zygotes import Zygote


def main(settings: Settings) -> int:
    """Run a worker to its end; returns the exit status."""
    from executor.logs import set_up  # noqa: PLC0415
    from worker.attempt import default_rlimits  # noqa: PLC0415
    from worker.keepers import Keepers  # noqa: PLC0415

    set_up(settings.telemetry)
    own = settings.worker
    # A pool has a spare beyond its slots; any other worker needs the one child.
    count = (own.slots or cpu_limit()) + 1 if own.mode == "warm-pool" else 1
    keepers = Keepers(count, default_rlimits(settings.limits), _zygote(settings))
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


def _zygote(settings: Settings) -> Zygote:
    from worker.zygotes import LocalZygote, PodZygote  # noqa: PLC0415

    own = settings.worker
    return PodZygote(own.agent_socket, own.pod_start) if own.mode == "agent" else LocalZygote(own.scratch)


if __name__ == "__main__":
    try:
        sys.exit(main(load()))
    except ExecutorError as problem:
        print(f"worker: {problem}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
