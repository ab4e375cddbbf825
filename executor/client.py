"""The Python client: submit, wait, stream and cancel, asyncio first; `executor.sync` has the same without asyncio.

All waits of one client share one reply stream and one reading connection. Submitting is safe to repeat: the client
names every evaluation, and the dispatcher takes a name once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, Unpack

from executor import codec
from executor.errors import ExecutorError, InvalidField, TransientError
from executor.keys import DEFAULT_TENANT, TENANT_PATTERN
from executor.request import FIELDS, EvaluationRequest, from_map
from executor.result import EvaluationResult
from executor.settings import Settings, load, server_url
from executor.streams.caller import Caller, Entry
from executor.streams.dead import DeadLetter, DeadLetters, Match
from executor.streams.server import Cell, close_quietly
from executor.tracing import Tracer, messaging, new_traceparent, now_ns, span_context

_BLOCK_MS = 5000
_CANCEL_TRIES, _CANCEL_PAUSE = 50, 0.1
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


class Handle:
    """One submitted evaluation."""

    def __init__(self, client: Client, evaluation_id: str, *, streams: bool) -> None:
        self._client = client
        self.id = evaluation_id
        self._streams = streams

    async def wait(self, timeout: float | None = None) -> EvaluationResult:
        """The terminal result, as soon as there is one.

        Args:
            timeout: seconds; TimeoutError when they pass. The evaluation goes on.
        """
        return await self._client.wait(self.id, timeout)

    async def stream(self, cursor: str = "0-0") -> AsyncIterator[Chunk]:
        """Live output from a cursor to the end of the evaluation, which must have been submitted with `stream`."""
        if not self._streams:
            raise InvalidField("stream", "the evaluation was submitted without it; submit with stream=True")
        async for chunk in self._client.stream(self.id, cursor):
            yield chunk

    async def cancel(self) -> tuple[str, str]:
        """Take it back: (`cancelled` | `cancelling` | `done` | `duplicate` | `unknown`, more).

        An evaluation that a dispatcher has not taken yet is unknown to the server; that is waited for a moment.
        """
        for _ in range(_CANCEL_TRIES):
            answer = await self._client.cancel(self.id)
            if answer[0] != "unknown":
                return answer
            await asyncio.sleep(_CANCEL_PAUSE)
        return "unknown", ""


class Client:
    """A connection to one cell for one tenant.

    async with Client() as client:
        result = await client.run("print(6 * 7)")
    """

    def __init__(self, url: str = "", *, tenant: str = DEFAULT_TENANT, settings: Settings | None = None) -> None:
        """Make a client; it connects on first use.

        Args:
            url: of the server; empty: REDIS_URL, or what `executor up` left in this folder.
            tenant: whose ingress stream requests go to.
            settings: everything else; read from the environment when None.
        """
        if TENANT_PATTERN.fullmatch(tenant) is None:
            raise InvalidField(
                "tenant", f"{tenant[:80]!r} is not letters, digits, dot, underscore and dash, at most 64"
            )
        self._settings = settings or load()
        self._cell = Cell(url or server_url(self._settings.server), self._settings.server, self._settings.delivery)
        self._tenant = tenant
        self._caller = Caller(self._cell)
        self._dead = DeadLetters(self._cell)
        self._tracer = Tracer("executor-client", self._settings.telemetry.traces)
        self._reply = self._cell.keys.reply(f"client-{secrets.token_hex(8)}")
        self._following: set[asyncio.Task[None]] = set()
        self._cursors: dict[str, bytes] = {self._reply: b"0-0"}
        self._waiting: dict[str, asyncio.Future[EvaluationResult]] = {}
        self._watching: dict[str, asyncio.Queue[Entry]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._reader_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def round_trips(self) -> int:
        """Writes so far that waited for a reply."""
        return self._cell.round_trips

    async def close(self) -> None:
        """Disconnect; waits that are open are cancelled."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        for future in self._waiting.values():
            future.cancel()
        for task in self._following:
            task.cancel()
        await close_quietly(self._cell)
        if self._tracer.enabled:
            await asyncio.to_thread(self._tracer.close)

    async def run(
        self, code: str | None = None, *, wait_timeout: float | None = None, **fields: Any
    ) -> EvaluationResult:
        """Submit and wait; see `submit` for the fields."""
        handle = await self.submit(code, **fields)
        return await handle.wait(wait_timeout)

    async def submit(self, code: str | None = None, **fields: Any) -> Handle:
        """Submit one evaluation.

        Args:
            code: Python source; or give `command=[...]`.
            fields: any field of EvaluationRequest (timeout, stdin, args, env, limits, stream, id, ...).

        Raises:
            InvalidField: a field is not acceptable; nothing was sent.
            ExecutorError: the server cannot take it now.
        """
        values = fields if code is None else {"code": code, **fields}
        return (await self.submit_many([values]))[0]

    async def submit_many(self, requests: Sequence[Mapping[str, Any]]) -> list[Handle]:
        """Submit several in one write; each is a map of request fields."""
        named = [self._named(values) for values in requests]
        for values in named:
            self._expect(str(values["id"]))
        self._ensure_reading()
        parents = [self._enter_trace(values) for values in named] if self._tracer.enabled else []
        packed = [codec.encode(values) for values in named]
        start_ns = now_ns()
        try:
            entry_ids = await self._caller.add(self._tenant, packed)
        except TransientError:
            # The same ids: what arrived the first time is taken once.
            entry_ids = await self._caller.add(self._tenant, packed)
        for values, parent, entry_id in zip(named, parents, entry_ids, strict=False):
            self._trace(values, parent, entry_id, start_ns)
        return [Handle(self, str(values["id"]), streams=bool(values.get("stream"))) for values in named]

    def _enter_trace(self, values: dict[str, Any]) -> str:
        """Put the context of a `send` span into a request; returns the one it is under, or its own for a root."""
        sent = values.get("traceparent")
        parent = str(sent or new_traceparent(self._settings.telemetry.traces_sample))
        own = span_context(parent, f"send/{values['id']}") if self._tracer.wants(parent) else parent
        values["traceparent"] = own
        return parent if sent else own

    def _trace(self, values: Mapping[str, Any], parent: str, entry_id: str, start_ns: int) -> None:
        stream, context = self._cell.keys.requests(self._tenant), values["traceparent"]
        facts = messaging("send", "XADD", stream, entry_id, self._tenant, values["id"])
        self._tracer.span(f"send {stream}", parent, start_ns, now_ns(), facts, context=context, kind="producer")

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise InvalidField if a request is not acceptable, without sending it."""
        self._named(values)

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(values) - FIELDS):
            raise InvalidField(unknown[0], f"unknown field; the fields are {', '.join(sorted(FIELDS))}")
        request = from_map({"id": _new_id(), "reply_to": self._reply, **values})
        assert isinstance(request, EvaluationRequest)
        return request.to_map()

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

    async def _follow(self, evaluation_id: str, future: asyncio.Future[EvaluationResult]) -> None:
        """Wait for the evaluation that an idempotency key was first used for; its reply goes to who asked first."""
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
        try:
            return await self._caller.result(self._tenant, evaluation_id)
        except TransientError:
            return None

    async def result(self, evaluation_id: str) -> EvaluationResult | None:
        """The committed result, None while there is none."""
        return await self._caller.result(self._tenant, evaluation_id)

    async def state(self, evaluation_id: str) -> dict[str, str]:
        """State, attempt, owner, lane, outcome and `redriven_as` of an evaluation; {} when it is not known."""
        return await self._caller.state(self._tenant, evaluation_id)

    async def cancel(self, evaluation_id: str) -> tuple[str, str]:
        """Take an evaluation back: what was done, and the worker, outcome or first id that it is about."""
        word, more, known = await self._caller.cancel(self._tenant, evaluation_id)
        if word == "cancelled":
            stream = self._cell.keys.requests(self._tenant)
            facts = (known.entry_id, self._tenant, evaluation_id, word)
            self._tracer.ended_unrun(known.traceparent, stream, *facts)
        return word, more

    async def dead_letters(self, limit: int | None = None, **match: Unpack[Match]) -> list[DeadLetter]:
        """Dead letters of the cell, of all tenants, that match (executor.streams.dead), newest first."""
        return await self._dead.letters(limit, **match)

    async def redrive(self, entry: DeadLetter | str) -> str:
        """Run a lost evaluation again; returns its new id, or raises InvalidField with why it cannot be."""
        return await self._dead.redrive(entry)

    async def purge(
        self, entry: DeadLetter | str | None = None, *, everything: bool = False, **match: Unpack[Match]
    ) -> int:
        """Throw dead letters away: one, those that match, or all; returns how many."""
        return await self._dead.purge(entry, everything=everything, **match)

    async def stream(self, evaluation_id: str, cursor: str = "0-0") -> AsyncIterator[Chunk]:
        """Live output from a cursor to the end."""
        key = self._cell.keys.output(self._tenant, evaluation_id)
        queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._watching[key], self._cursors[key] = queue, cursor.encode()
        self._ensure_reading()
        await self._interrupt_reader()
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

    def _expect(self, evaluation_id: str) -> asyncio.Future[EvaluationResult]:
        return self._waiting.setdefault(evaluation_id, asyncio.get_running_loop().create_future())

    def _ensure_reading(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="client-replies")

    async def _interrupt_reader(self) -> None:
        """Make the blocked read come back, so that it takes a new stream in."""
        if self._reader_id:
            await self._caller.wake(self._reader_id)

    async def _read(self) -> None:
        pause, looked = 0.05, time.monotonic()
        while True:
            try:
                self._reader_id = self._reader_id or await self._caller.reader_id()
                found = await self._caller.read(dict(self._cursors), _BLOCK_MS)
                pause = 0.05
            except ExecutorError:
                self._reader_id = 0
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)
                continue
            if not found or time.monotonic() - looked > _BLOCK_MS / 1000:
                looked = time.monotonic()
                await self._look_again()
            for key, entries in found.items():
                if key in self._cursors:
                    self._cursors[key] = entries[-1][0]
                await self._deliver(key, entries)

    async def _look_again(self) -> None:
        """A reply may have been trimmed, or lost with a server that was restarted; others may come all the time."""
        for evaluation_id, future in list(self._waiting.items()):
            if not future.done() and (found := await self._look(evaluation_id)) and not future.done():
                future.set_result(found)

    async def _deliver(self, key: str, entries: list[Entry]) -> None:
        if key in self._watching:
            for entry in entries:
                self._watching[key].put_nowait(entry)
        elif key == self._reply:
            for _, fields in entries:
                await self._answer(fields)

    async def _answer(self, fields: dict[bytes, bytes]) -> None:
        future = self._waiting.get(fields.get(b"id", b"").decode())
        if future is None or future.done():
            return
        if b"duplicate_of" in fields:
            task = asyncio.create_task(self._follow(fields[b"id"].decode(), future), name="follow")
            self._following.add(task)
            task.add_done_callback(self._following.discard)
        if b"outcome" not in fields:
            return
        whole = (
            await self._look(fields[b"id"].decode()) if b"omitted" in fields else EvaluationResult.from_fields(fields)
        )
        if whole is not None and not future.done():
            future.set_result(whole)


def _new_id() -> str:
    """Sorts by time, unique without coordination: milliseconds and 80 random bits (as ULID orders them)."""
    return f"{int(time.time_ns() // 1_000_000):012x}-{secrets.token_hex(10)}"
