"""The two loads: a closed loop that finds the capacity, and an open loop that does not care how the system is.

In the open loop an arrival is due when the schedule says so. A latency is counted from there, whether the request could
be sent then or not: a stall is felt by everybody who would have come meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from dataclasses import dataclass, field

from bench.soak.mix import Mix
from executor.client import Client, Handle
from executor.errors import ExecutorError

LAST_SECONDS = 60.0
"""How long after the last arrival its result may take before it counts as lost."""


async def capacity(client: Client, mix: Mix, seconds: float, at_once: int) -> float:
    """Evaluations per second with a number of them always in flight."""
    done = 0
    limit = time.perf_counter() + seconds

    async def one_after_the_other() -> None:
        nonlocal done
        while time.perf_counter() < limit:
            request, _ = mix.next()
            await client.run(**request)
            done += 1

    start = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return done / (time.perf_counter() - start)


@dataclass
class Minute:
    """What was due in one minute.

    Attributes:
        latencies: ms from the scheduled arrival to the result.
        late: ms by which requests were sent after their time; also within their latency.
    """

    latencies: array[float] = field(default_factory=lambda: array("f"))
    late: array[float] = field(default_factory=lambda: array("f"))


class OpenLoop:
    """Arrivals at random instants with a given rate.

    Attributes:
        minutes: what was measured, by the minute that an arrival was due in.
        outstanding: results that are waited for at this moment.
        sent: requests so far.
        wrong: results with another outcome than their request must have.
        refused: requests that could not be sent.
    """

    def __init__(self, client: Client, mix: Mix, rate: float) -> None:
        self._client = client
        self._mix = mix
        self._rate = rate
        self._tasks: set[asyncio.Task[None]] = set()
        self.start = 0.0
        self.minutes: list[Minute] = []
        self.sent = 0
        self.wrong = 0
        self.refused = 0

    @property
    def outstanding(self) -> int:
        """Results that are waited for at this moment."""
        return len(self._tasks)

    async def run(self, seconds: float) -> None:
        """Send for some time, whatever comes back."""
        self.start = due = time.perf_counter()
        end = self.start + seconds
        while due < end:
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            batch = []
            now = time.perf_counter()
            while due <= min(now, end):
                batch.append(due)
                due += self._mix.pause(self._rate)
            await self._send(batch)

    async def finish(self) -> int:
        """Wait for what is outstanding; returns how many results never came."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS)
        lost = len(self._tasks)
        for task in list(self._tasks):
            task.cancel()
        return lost

    async def _send(self, batch: list[float]) -> None:
        requests = [self._mix.next() for _ in batch]
        try:
            handles = await self._client.submit_many([request for request, _ in requests])
        except ExecutorError:
            self.refused += len(batch)
            return
        now = time.perf_counter()
        self.sent += len(batch)
        for due, handle, (_, outcome) in zip(batch, handles, requests, strict=True):
            minute = self._minute(due)
            minute.late.append((now - due) * 1000)
            task = asyncio.create_task(self._follow(due, handle, outcome, minute))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _minute(self, due: float) -> Minute:
        number = int((due - self.start) // 60)
        while len(self.minutes) <= number:
            self.minutes.append(Minute())
        return self.minutes[number]

    async def _follow(self, due: float, handle: Handle, outcome: str, minute: Minute) -> None:
        result = await handle.wait()
        minute.latencies.append((time.perf_counter() - due) * 1000)
        self.wrong += result.outcome != outcome
