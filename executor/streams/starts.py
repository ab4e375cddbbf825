"""News of workers that were started for work that waited: told by the worker, timed by whoever can see its pod.

A worker knows when its process began; when its pod was made and placed only the API server knows, for which a worker
has no token. So it leaves a note behind its first traced commit, and a dispatcher completes the trace. Notes are of
interest for a minute; nothing depends on them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from executor import codec
from executor.keys import Keys
from executor.streams.channel import Channel

_KEPT_MS: Final = 60_000
_CAP: Final = 1000
"""Notes kept while no dispatcher takes them."""


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """A worker that began while an evaluation of its own was waiting.

    Attributes:
        worker: its name, which in a cluster is its pod's.
        lane: the lane it serves.
        tenant: of the evaluation.
        id: of the evaluation.
        attempt: number of the attempt that waited.
        context: traceparent of that attempt's `queue` span.
        queued_ns: when the wait began, wall clock.
        began_ns: when the worker's process did, wall clock.
    """

    worker: str
    lane: str
    tenant: str
    id: str
    attempt: int
    context: str
    queued_ns: int
    began_ns: int


class Starts:
    """The notes of one cell (a list with a TTL)."""

    def __init__(self, keys: Keys, channel: Channel) -> None:
        self._key = keys.starts()
        self._channel = channel

    async def tell(self, start: WorkerStart) -> None:
        """Leave a note; the oldest go when there are too many."""
        note = codec.encode(asdict(start))
        commands = [("RPUSH", self._key, note), ("LTRIM", self._key, -_CAP, -1), ("PEXPIRE", self._key, _KEPT_MS)]
        for future in await self._channel.pipeline(commands):
            await future

    async def take(self, patience: float) -> list[WorkerStart]:
        """Wait up to `patience` seconds for a note; each is given to one taker."""
        first = await self._channel.call("BLPOP", self._key, patience, patience=patience)
        if first is None:
            return []
        more = await self._channel.call("LPOP", self._key, _CAP) or []
        return [_start(note) for note in (first[1], *more)]


def _start(note: bytes) -> WorkerStart:
    facts = codec.decode(note)
    return WorkerStart(**{name: facts[name] for name in WorkerStart.__slots__})
