"""Looks at the lag of lanes all the time, as KEDA would if it looked all the time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.support.installation import Installation
from executor.errors import ExecutorError
from executor.streams.server import Cell
from executor.streams.upkeep import Upkeep

_EVERY = 0.05


class LagWatch:
    """What was seen.

    Attributes:
        looks: number of answers by lane.
        longest_nil: longest time that a lag was unknown while the server answered, seconds.
        lanes: that are looked at.
    """

    def __init__(self, *lanes: str) -> None:
        self.lanes = lanes
        self.looks: Counter[str] = Counter()
        self.longest_nil = 0.0
        self._nil_since: dict[str, float] = {}
        self._done = threading.Event()

    async def _look(self, cell: Cell) -> None:
        upkeep = Upkeep(cell)
        try:
            while not self._done.is_set():
                for lane in self.lanes:
                    self._note(lane, (await upkeep.view(lane)).lag)
                await asyncio.sleep(_EVERY)
        finally:
            await cell.close()

    def _note(self, lane: str, lag: int | None) -> None:
        now = time.monotonic()
        self.looks[lane] += 1
        if lag is None:
            self.longest_nil = max(self.longest_nil, now - self._nil_since.setdefault(lane, now))
        else:
            self._nil_since.pop(lane, None)

    def follow(self, installation: Installation) -> None:
        """Look until told to end; a server that is away is asked again."""
        while not self._done.is_set():
            try:
                with installation.redis_url("doctor") as url:
                    asyncio.run(self._look(installation.cell(url)))
            except (ExecutorError, AssertionError):  # the server or the way to it is gone
                self._nil_since.clear()
                self._done.wait(0.2)

    def end(self) -> None:
        """Stop looking."""
        self._done.set()


@contextmanager
def lag_watch(installation: Installation, *lanes: str) -> Iterator[LagWatch]:
    """Look at some lanes while the block runs."""
    watch = LagWatch(*lanes)
    thread = threading.Thread(target=watch.follow, args=(installation,), name="lag-watch")
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()
