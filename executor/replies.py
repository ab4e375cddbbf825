"""What comes back to a client: results on its reply stream, and live output. One reading connection for all waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from executor.errors import CorruptEntry, ExecutorError, PermanentError, TransientError
from executor.result import EvaluationResult
from executor.streams.caller import Caller, Entry

_BLOCK_MS = 5000
_LOOK_AT_ONCE = 200
"""Waits that are looked at again in one trip."""
_REST = 9
"""Between two of those trips, in times of what one took."""
_POLL = 0.25
"""Seconds between two looks at an evaluation that was submitted elsewhere."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of live output."""

    stream: str
    """`stdout` or `stderr`."""
    text: str
    attempt: int
    """Rises when the evaluation was started again; earlier output is then void."""
    cursor: str
    """Where to go on after a reconnect."""


class Replies:
    """Waits of one client, for evaluations of one tenant.

    Attributes:
        key: reply stream to name in requests.
    """

    def __init__(self, caller: Caller, tenant: str, key: str) -> None:
        self.key = key
        self._caller = caller
        self._tenant = tenant
        self._following: set[asyncio.Task[None]] = set()
        self._cursors: dict[str, bytes] = {key: b"0-0"}
        self._waiting: dict[str, asyncio.Future[EvaluationResult]] = {}
        self._watching: dict[str, asyncio.Queue[Entry]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._reader_id = 0

    def expect(self, evaluation_id: str) -> bool:
        """Say that a reply will come, before its request is sent; False if it is expected already."""
        self._ensure_reading()
        if evaluation_id in self._waiting:
            return False
        self._waiting[evaluation_id] = asyncio.get_running_loop().create_future()
        return True

    def forget(self, evaluation_ids: Iterable[str]) -> None:
        """No reply to these will come."""
        for evaluation_id in evaluation_ids:
            self._waiting.pop(evaluation_id).cancel()

    async def wait(self, evaluation_id: str, timeout: float | None = None) -> EvaluationResult:
        """The result of an evaluation submitted by anybody of this tenant."""
        if (future := self._waiting.get(evaluation_id)) is None:
            return await asyncio.wait_for(self._poll(evaluation_id), timeout)
        self._ensure_reading()
        try:
            return await (future if timeout is None else asyncio.wait_for(asyncio.shield(future), timeout))
        finally:
            if future.done():
                self._waiting.pop(evaluation_id, None)

    async def stream(self, key: str, cursor: str) -> AsyncIterator[Chunk]:
        """Live output on a stream from a cursor to the end."""
        queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._watching[key], self._cursors[key] = queue, cursor.encode()
        self._ensure_reading()
        if self._reader_id:
            await self._caller.wake(self._reader_id)  # the blocked read comes back, and takes the new stream in
        try:
            while True:
                entry_id, fields = await queue.get()
                if b"end" in fields:
                    return
                attempt = int(fields.pop(b"attempt"))
                for name, text in fields.items():
                    yield Chunk(name.decode(), text.decode("utf-8", "replace"), attempt, entry_id.decode())
        finally:
            del self._watching[key], self._cursors[key]

    async def close(self) -> None:
        """Stop reading; waits that are open are cancelled."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        for future in self._waiting.values():
            future.cancel()
        for task in (*self._following, *([self._looking] if self._looking else [])):
            task.cancel()

    def follow(self, evaluation_id: str) -> None:
        """Look for a result again and again beside waiting for a reply, which may go to who asked first."""
        if (future := self._waiting.get(evaluation_id)) is None or future.done():
            return
        task = asyncio.create_task(self._follow(evaluation_id, future), name="follow")
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _follow(self, evaluation_id: str, future: asyncio.Future[EvaluationResult]) -> None:
        while not future.done():
            if (found := await self._look(evaluation_id)) and not future.done():
                future.set_result(found)
            await asyncio.sleep(_POLL)

    async def _poll(self, evaluation_id: str) -> EvaluationResult:
        """Wait for what somebody else submitted, whose reply goes elsewhere."""
        while True:
            if found := await self._caller.result(self._tenant, evaluation_id):
                return found
            await asyncio.sleep(_POLL)

    async def _look(self, evaluation_id: str) -> EvaluationResult | None:
        """The result as far as it can be read now: what lies in its place may be no result."""
        try:
            return await self._caller.result(self._tenant, evaluation_id)
        except (TransientError, PermanentError):
            return None

    def _ensure_reading(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="client-replies")

    async def _read(self) -> None:
        pause, looked = 0.05, time.monotonic()
        while True:
            try:
                self._reader_id = self._reader_id or await self._caller.reader_id()
                found = await self._caller.read(dict(self._cursors), _BLOCK_MS)
                pause = 0.05
            except ExecutorError as error:
                self._reader_id = 0
                if isinstance(error, PermanentError):  # something else lies there, and no reply will come
                    await self._look_again()
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)
                continue
            if not found or time.monotonic() - looked > _BLOCK_MS / 1000:
                looked = time.monotonic()
                self._ensure_looking()
            for key, entries in found.items():
                if key in self._cursors:
                    self._cursors[key] = entries[-1][0]
                await self._deliver(key, entries)

    def _ensure_looking(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again(), name="client-look-again")

    async def _look_again(self) -> None:
        """A reply may have been trimmed, or lost with a server that was restarted; others may come all the time.

        Beside the reading, which would fall behind and miss more of them; and for a part of the time only, for there
        may be any number of waits.
        """
        waits = [evaluation_id for evaluation_id, future in self._waiting.items() if not future.done()]
        for start in range(0, len(waits), _LOOK_AT_ONCE):
            began = time.monotonic()
            try:
                for evaluation_id in await self._caller.answered(self._tenant, waits[start : start + _LOOK_AT_ONCE]):
                    await self._settle(evaluation_id)
            except ExecutorError:
                return  # with the next pass
            await asyncio.sleep((time.monotonic() - began) * _REST)

    async def _settle(self, evaluation_id: str) -> None:
        future = self._waiting.get(evaluation_id)
        if future is None or future.done():
            return
        if (found := await self._look(evaluation_id)) and not future.done():
            future.set_result(found)

    async def _deliver(self, key: str, entries: Sequence[Entry]) -> None:
        if key in self._watching:
            for entry in entries:
                self._watching[key].put_nowait(entry)
        elif key == self.key:
            for _, fields in entries:
                await self._answer(fields)

    async def _answer(self, fields: dict[bytes, bytes]) -> None:
        future = self._waiting.get(fields.get(b"id", b"").decode("utf-8", "replace"))
        if future is None or future.done():
            return
        if b"duplicate_of" in fields:
            self.follow(fields[b"id"].decode())
        if b"outcome" not in fields:
            return
        whole = await self._look(fields[b"id"].decode()) if b"omitted" in fields else _result(fields)
        if whole is not None and not future.done():
            future.set_result(whole)


def _result(fields: dict[bytes, bytes]) -> EvaluationResult | None:
    """None when they are none; the result itself is looked for again and again."""
    try:
        return EvaluationResult.from_fields(fields)
    except CorruptEntry:
        return None
