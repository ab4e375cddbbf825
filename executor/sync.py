"""The client without asyncio: the same calls, blocking. One event loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from executor import client
from executor.replies import Chunk
from executor.result import EvaluationResult
from executor.streams.dead import DeadLetter, Match

T = TypeVar("T")


class Handle:
    """One submitted evaluation."""

    def __init__(self, owner: Client, inner: client.Handle) -> None:
        self._owner = owner
        self._inner = inner
        self.id = inner.id
        self.state = inner.state

    def wait(self, timeout: float | None = None) -> EvaluationResult:
        """The terminal result, as soon as there is one."""
        return self._owner.call(self._inner.wait(timeout))

    def stream(self, cursor: str = "0-0") -> Iterator[Chunk]:
        """Live output to the end of the evaluation."""
        chunks = self._inner.stream(cursor)
        while True:
            try:
                yield self._owner.call(anext(chunks))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return

    def cancel(self) -> tuple[str, str]:
        """Take it back."""
        return self._owner.call(self._inner.cancel())


class Client:
    """A blocking face of `executor.Client`, with the same arguments."""

    def __init__(self, url: str = "", **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="executor-client", daemon=True)
        self._thread.start()
        self._inner = client.Client(url, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the client to its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def run(self, code: str | None = None, **fields: Any) -> EvaluationResult:
        """Submit and wait."""
        return self.call(self._inner.run(code, **fields))

    def submit(self, code: str | None = None, **fields: Any) -> Handle:
        """Submit one evaluation."""
        return Handle(self, self.call(self._inner.submit(code, **fields)))

    def submit_many(self, requests: Sequence[Mapping[str, Any]]) -> list[Handle]:
        """Submit several in one write."""
        return [Handle(self, inner) for inner in self.call(self._inner.submit_many(requests))]

    def wait(self, evaluation_id: str, timeout: float | None = None) -> EvaluationResult:
        """The result of any evaluation of this tenant."""
        return self.call(self._inner.wait(evaluation_id, timeout))

    def cancel(self, evaluation_id: str) -> tuple[str, str]:
        """Take an evaluation back."""
        return self.call(self._inner.cancel(evaluation_id))

    def dead_letters(self, limit: int | None = None, **match: Unpack[Match]) -> list[DeadLetter]:
        """Dead letters of the cell that match, newest first."""
        return self.call(self._inner.dead_letters(limit, **match))

    def redrive(self, entry: DeadLetter | str) -> str:
        """Run a lost evaluation again; returns its new id."""
        return self.call(self._inner.redrive(entry))

    def purge(self, entry: DeadLetter | str | None = None, *, everything: bool = False, **match: Unpack[Match]) -> int:
        """Throw dead letters away: one, those that match, or all; returns how many."""
        return self.call(self._inner.purge(entry, everything=everything, **match))

    def close(self) -> None:
        """Disconnect and end the thread."""
        self.call(self._inner.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
