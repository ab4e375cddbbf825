"""The Python client: submit, wait, stream and cancel, asyncio first; `executor.sync` has the same without asyncio.

All waits of one client share one reply stream and one reading connection. Submitting is safe to repeat: the client
names every evaluation, and the dispatcher takes a name once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from executor import codec
from executor.errors import BacklogFull, InvalidField, TransientError
from executor.keys import DEFAULT_TENANT, TENANT_PATTERN
from executor.replies import Chunk, Replies
from executor.request import FIELDS, EvaluationRequest, from_map
from executor.result import EvaluationResult
from executor.settings import Settings, load, server_url
from executor.streams.caller import Caller, Enqueued, Submission
from executor.streams.dead import DeadLetter, DeadLetters, Match
from executor.streams.server import Cell, close_quietly
from executor.tracing import Tracer, messaging, new_traceparent, now_ns, span_context

_CANCEL_TRIES, _CANCEL_PAUSE = 50, 0.1


class Handle:
    """One submitted evaluation.

    Attributes:
        id: its id; the first one's if the idempotency key was used before.
        state: `submitted`, or what the server says of one that it knew already (`queued`, `running`, `done`).
    """

    def __init__(self, client: Client, evaluation_id: str, state: str = "submitted", *, streams: bool) -> None:
        self._client = client
        self.id = evaluation_id
        self.state = state
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
        self._replies = Replies(self._caller, tenant, self._cell.keys.reply(f"client-{secrets.token_hex(8)}", tenant))

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
        await self._replies.close()
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
            BacklogFull: the tenant has as much open as it may; try again later.
            ExecutorError: the server cannot take it now.
        """
        values = fields if code is None else {"code": code, **fields}
        return (await self.submit_many([values]))[0]

    async def submit_many(self, requests: Sequence[Mapping[str, Any]]) -> list[Handle]:
        """Submit several in one write; each is a map of request fields.

        Raises:
            BacklogFull: with the ids that were taken before; the others are not submitted.
        """
        named = [self._named(values) for values in requests]
        parents = [self._enter_trace(values) for values in named] if self._tracer.enabled else []
        ids = [str(values["id"]) for values in named]
        expected = {one for one in ids if self._replies.expect(one)}
        keys = (str(values.get("idempotency_key") or "") for values in named)
        start_ns = now_ns()
        try:
            answers = await self._enqueue(
                [Submission(one, codec.encode(values), key) for one, values, key in zip(ids, named, keys, strict=True)]
            )
        except BacklogFull as full:
            self._replies.forget(expected - set(full.accepted))
            raise
        for one, answer in zip(ids, answers, strict=True):
            if answer.id != one:
                self._replies.forget(expected & {one})
            elif not answer.entry_id:
                self._replies.follow(one)  # its reply may go to whoever submitted it
        for values, parent, answer in zip(named, parents, answers, strict=False):
            self._trace(values, parent, answer.entry_id, start_ns)
        return [
            Handle(self, answer.id, answer.state, streams=bool(values.get("stream")))
            for values, answer in zip(named, answers, strict=True)
        ]

    async def _enqueue(self, submissions: list[Submission]) -> list[Enqueued]:
        try:
            return await self._caller.enqueue(self._tenant, submissions)
        except BacklogFull:
            raise
        except TransientError:
            # The same ids: what arrived the first time is taken once.
            return await self._caller.enqueue(self._tenant, submissions)

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
        request = from_map({"id": _new_id(), "reply_to": self._replies.key, **values})
        assert isinstance(request, EvaluationRequest)
        return request.to_map()

    async def wait(self, evaluation_id: str, timeout: float | None = None) -> EvaluationResult:
        """The result of an evaluation submitted by anybody of this tenant."""
        return await self._replies.wait(evaluation_id, timeout)

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
        async for chunk in self._replies.stream(self._cell.keys.output(self._tenant, evaluation_id), cursor):
            yield chunk


def _new_id() -> str:
    """Sorts by time, unique without coordination: milliseconds and 80 random bits (as ULID orders them)."""
    return f"{int(time.time_ns() // 1_000_000):012x}-{secrets.token_hex(10)}"
