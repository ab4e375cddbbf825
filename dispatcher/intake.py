"""The intake: reads ingress, decides about each entry, has the decisions carried out.

A decision is pure; its execution is one script per entry, sent together with the next blocking read. An entry whose
decision was not carried out stays pending and is read again, here or by another dispatcher; ids make that harmless.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from dispatcher.policy import Policy, authorize
from dispatcher.routing import route
from dispatcher.troubles import Troubles
from executor import codec
from executor.errors import ExecutorError, InvalidField
from executor.keys import DEFAULT_TENANT, DISPATCHERS, ID_PATTERN, PRIORITIES, Keys
from executor.outage import Outage
from executor.outcome import Outcome
from executor.request import EvaluationRequest, parse_entry, peek
from executor.result import EvaluationResult
from executor.settings import Settings
from executor.streams.ingress import Admission, Ingress, IngressEntry, Rejection
from executor.streams.terminal import Destination
from executor.telemetry import REQUESTS
from executor.tracing import Tracer, entry_ns, evaluation_context, messaging, new_traceparent, now_ns, span_context

log = logging.getLogger("dispatcher")

READ_BLOCK_MS = 2000
_PAYLOAD: Final = ("code", "command", "args", "env", "stdin", "metadata")
"""Fields that the worker needs as they came."""


@dataclass(frozen=True, slots=True)
class TracedAdmission(Admission):
    """An admission whose spans are recorded, with the times between them, ns."""

    submitted_ns: int = 0
    read_ns: int = 0
    decided_ns: int = 0


class Intake:
    """Serves the ingress streams of all tenants of a policy."""

    def __init__(self, ingress: Ingress, settings: Settings, policy: Policy, outage: Outage, tracer: Tracer) -> None:
        self._ingress = ingress
        self._settings = settings
        self._policy = policy
        self._outage = outage
        self._tracer = tracer
        self._keys = Keys(settings.server.prefix)
        self._tenants = {self._keys.requests(tenant): tenant for tenant in policy.tenants}
        self._troubles = Troubles("dispatcher")
        self._read_ns = 0
        self.draining = False

    async def serve(self) -> None:
        """Read and decide until cancelled."""
        batch = self._settings.dispatcher.batch
        recover = True
        entries: list[IngressEntry] = []
        while not self.draining:
            try:
                if recover:
                    async for missed in self._ingress.pending():
                        await self._answer(missed)
                recover = False
                decisions = self._decide(entries)
                answers, reading = await self._ingress.exchange(decisions, batch, READ_BLOCK_MS)
                self._follow_up(decisions, answers)
                entries = await reading
                self._outage.over()
            except ExecutorError as error:
                entries, recover = [], True
                await self._outage.wait(error)
                await self._outage.outlast(self.open)

    async def take_over(self, idle_ms: int) -> None:
        """Answer entries that another dispatcher has kept for too long, or that this one could not answer yet."""
        answers = [
            answer async for entries in self._ingress.take_over(idle_ms) for answer in await self._answer(entries)
        ]
        if not any(answer[0] == b"held" for answer in answers):
            self._troubles.over("requests")
        if self._ingress.closed:
            await self.open()

    async def open(self) -> None:
        """Make groups; a tenant's stream that is none is said, and looked at again with the next take-over."""
        await self._ingress.ensure()
        for stream in self._tenants:
            if problem := self._ingress.closed.get(stream):
                self._troubles.note(stream, problem)
            else:
                self._troubles.over(stream)

    async def _answer(self, entries: list[IngressEntry]) -> list[list[bytes]]:
        """Decide, and have it carried out, without reading further."""
        decisions = self._decide(entries)
        answers = await self._ingress.carry_out(decisions)
        self._follow_up(decisions, answers)
        return answers

    def _decide(self, entries: list[IngressEntry]) -> list[Admission | Rejection]:
        self._read_ns = now_ns()
        return [self.decide(entry) for entry in entries]

    def decide(self, entry: IngressEntry) -> Admission | Rejection:
        """Validate, authorize and route one entry; never raises for what a caller sent."""
        tenant = self._tenants.get(entry.stream, DEFAULT_TENANT)
        to, context = Destination(tenant, entry.entry_id), ""
        try:
            to = self._destination(entry, tenant)
            if entry.twice is not None:
                raise InvalidField(entry.twice.decode("utf-8", "replace")[:128] or "''", "is given more than once")
            request = parse_entry(entry.fields, self._settings.limits.request)
            context = request.traceparent or new_traceparent(self._settings.telemetry.traces_sample)
            to = Destination(
                tenant, request.id or entry.entry_id, self._reply_to(request.reply_to, tenant), request.stream
            )
            return self._admission(entry, request, to, context)
        except InvalidField as error:
            return _rejection(entry, to, context, error)
        except Exception:  # a mistake of ours in reading one request must not stop all others, again and again
            log.exception("a request cannot be read", extra={"evaluation_id": to.id})
            return _rejection(
                entry, to, context, InvalidField("request", "cannot be read; the dispatcher's log says why")
            )

    def _admission(self, entry: IngressEntry, request: EvaluationRequest, to: Destination, context: str) -> Admission:
        rules = self._policy.tenants[to.tenant]
        granted = authorize(request, rules, self._settings.limits, self._policy.classes)
        lane = route(request, trusted=rules.trusted, timeout=granted["timeout"])
        payload = {name: value for name in _PAYLOAD if (value := getattr(request, name))}
        payload |= granted | {"reply_to": to.reply_to, "stream": to.stream}
        attempts = int(granted["max_attempts"])
        credit = self._policy.credits.get(lane, self._settings.delivery.credit)
        order = (
            PRIORITIES.index(request.priority) + 1,
            _ms(request.not_before),
            _ms(request.deadline),
            request.idempotency_key or "",
        )
        if not self._tracer.wants(context):
            return Admission(entry, to, lane, credit, codec.encode(payload), context, attempts, *order)
        times = min(entry_ns(entry.entry_id), self._read_ns), self._read_ns, now_ns()
        payload["times"] = times[::2]  # the worker's spans begin where ours end
        return TracedAdmission(entry, to, lane, credit, codec.encode(payload), context, attempts, *order, *times)

    def _destination(self, entry: IngressEntry, tenant: str) -> Destination:
        """Where to answer an entry that may turn out unreadable: its plain id and reply stream, if they are good."""
        raw_id, reply_to = peek(entry.fields)
        known = raw_id if ID_PATTERN.fullmatch(raw_id) and entry.twice != b"id" else entry.entry_id
        return Destination(tenant, known, reply_to if self._keys.is_reply(reply_to, tenant) else "")

    def _reply_to(self, key: str | None, tenant: str) -> str:
        if key is None:
            return ""
        if not self._keys.is_reply(key, tenant):
            raise InvalidField("reply_to", f"{key[:128]!r} is not {self._keys.reply('<name>', tenant)}")
        return key

    def _follow_up(self, decisions: list[Admission | Rejection], answers: list[list[bytes]]) -> None:
        for decision, answer in zip(decisions, answers, strict=True):
            REQUESTS.add(1, decision.to.tenant, answer[0].decode())
            if answer[0] == b"held":
                self._troubles.note("requests", answer[1].decode("utf-8", "replace"))
            elif isinstance(decision, Rejection):
                log.info("request rejected", extra={"evaluation_id": decision.to.id, "reason": decision.result.error})
                self._trace_rejection(decision, answer[0])
            elif isinstance(decision, TracedAdmission) and answer[0] == b"admitted":
                self._trace(decision)

    def _trace_rejection(self, done: Rejection, answer: bytes) -> None:
        if answer == b"rejected":
            to, entry = done.to, done.entry
            facts = (entry.stream, entry.entry_id, to.tenant, to.id, "rejected")
            self._tracer.ended_unrun(done.result.traceparent, *facts)

    def _trace(self, done: TracedAdmission) -> None:
        to, entry = done.to, done.entry
        whole = evaluation_context(done.traceparent, to.tenant, to.id)
        about = (entry.stream, entry.entry_id, to.tenant, to.id)
        waited = messaging("", "", *about) | {"executor.lane": done.lane}
        decided = messaging("process", "dispatch", *about, DISPATCHERS) | {"executor.lane": done.lane}
        context = span_context(whole, "submit")
        self._tracer.span("submit", whole, done.submitted_ns, done.read_ns, waited, context=context)
        context = span_context(whole, "dispatch")
        self._tracer.span("dispatch", whole, done.read_ns, done.decided_ns, decided, context=context, kind="consumer")


def _rejection(entry: IngressEntry, to: Destination, context: str, error: InvalidField) -> Rejection:
    result = EvaluationResult(
        id=to.id,
        tenant=to.tenant,
        outcome=Outcome.REJECTED,
        error=str(error),
        field=error.field,
        traceparent=context,
    )
    return Rejection(entry, to, result)


def _ms(instant: float | None) -> int:
    return 0 if instant is None else round(instant * 1000)
