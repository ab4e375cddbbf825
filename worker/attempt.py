"""One attempt: from a claimed lease to the result that can be committed."""

from __future__ import annotations

import asyncio
import codecs
import json
import resource
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from executor.outcome import Outcome
from executor.result import EvaluationResult
from executor.settings import OUTPUT_CEILING, LimitSettings
from executor.streams.lane import Lease
from executor.streams.terminal import Destination
from worker.keepers import Keeper, Keepers
from worker.kernel import frames
from worker.payload import read_payload

WATCH_AFTER: Final = 0.005
"""Seconds before a keeper is told to sample an evaluation; shorter ones never pay for it."""
LAST_OUTPUT: Final = 2048
"""Characters of output that are kept for the history of an attempt without a result."""
_PIPE: Final = 65536
_ADDRESS_SPACE_SLACK: Final = 512 * 1024 * 1024
"""Address space beyond the memory limit: thread stacks and libraries reserve much and touch little."""

OnOutput = Callable[[list[tuple[str, str]]], None]

_KILLED_BY_US: Final[dict[str, tuple[Outcome, str]]] = {
    "timeout": (Outcome.TIMED_OUT, "ran longer than its timeout"),
    "deadline": (Outcome.TIMED_OUT, "was not done by its deadline"),
    "cpu": (Outcome.TIMED_OUT, "used more CPU time than its limit"),
    "memory": (Outcome.OUT_OF_MEMORY, "used more memory than its limit"),
    "processes": (Outcome.PROCESS_LIMIT, "had more processes and threads than its limit"),
    "output": (Outcome.OUTPUT_LIMIT, f"wrote more than {OUTPUT_CEILING} times its output limit"),
    "cancel": (Outcome.CANCELLED, "cancelled while it ran"),
}


def default_rlimits(limits: LimitSettings) -> list[tuple[int, int]]:
    """Kernel limits of an evaluation that names none; handed to keepers once."""
    return _rlimits(limits, limits.memory, limits.timeout)


def _rlimits(limits: LimitSettings, memory: int, cpu: float) -> list[tuple[int, int]]:
    return [
        (resource.RLIMIT_AS, memory + _ADDRESS_SPACE_SLACK),
        (resource.RLIMIT_CPU, int(cpu) + 2),
        (resource.RLIMIT_FSIZE, limits.scratch),
        (resource.RLIMIT_CORE, 0),
    ]


class Attempt:
    """One run of one evaluation in a keeper's child.

    Attributes:
        payload: the admitted request, with every limit filled in.
        last_output: the end of what this worker has received of its output.
    """

    def __init__(self, lease: Lease, limits: LimitSettings, worker: str, is_reply: Callable[[str], bool]) -> None:
        """Read what a lease is for.

        Args:
            lease: of the attempt.
            limits: for what the payload leaves out.
            worker: name of this one.
            is_reply: whether a key may be a reply stream.

        Raises:
            CorruptEntry: its payload cannot be run.
        """
        self.lease = lease
        self.payload = read_payload(lease.payload, is_reply)
        self.last_output = ""
        self._limits = limits
        self._worker = worker
        self._keeper: Keeper | None = None
        self._reason = ""
        self._overdue = "timeout"
        self._timeout: float = self.payload["timeout"]
        if 0 <= lease.remaining_ms < self._timeout * 1000:
            self._overdue, self._timeout = "deadline", lease.remaining_ms / 1000
        self._timer: asyncio.TimerHandle | None = None

    @property
    def streams(self) -> bool:
        """Whether output is wanted live."""
        return bool(self.payload.get("stream"))

    @property
    def destination(self) -> Destination:
        """Where the result goes."""
        entry = self.lease.entry
        return Destination(entry.tenant, entry.id, self.payload.get("reply_to", ""), self.streams)

    async def run(self, keepers: Keepers, on_output: OnOutput | None = None) -> EvaluationResult:
        """Run to the end of the process tree.

        Raises:
            WorkerBroken: the keeper ended without a report.
        """
        keeper = keepers.take() or await keepers.acquire()
        self._keeper = keeper
        keeper.on_output = _decoding(self._noting(on_output)) if on_output else None
        started = time.monotonic()
        at_once = self.streams or self.payload["output"] < _PIPE
        report_of = keeper.start(self._request(), self._watch_frame() if at_once else None)
        if self._reason:
            self.kill(self._reason)
        else:
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER, self._watch, not at_once)
        try:
            header, (stdout, stderr, report) = await report_of
        finally:
            if self._timer is not None:
                self._timer.cancel()
            keeper.on_output = None
            self._keeper = None
        if self._reason == "lost":
            self._note((stdout[-LAST_OUTPUT:] + stderr[-LAST_OUTPUT:]).decode("utf-8", "replace"))
        return self._result(header, stdout, stderr, report, time.monotonic() - started)

    def _noting(self, on_output: OnOutput) -> OnOutput:
        def take(chunks: list[tuple[str, str]]) -> None:
            for _, text in chunks:
                self._note(self.last_output + text)
            on_output(chunks)

        return take

    def _note(self, output: str) -> None:
        self.last_output = output[-LAST_OUTPUT:]

    def kill(self, reason: str) -> None:
        """End it as soon as possible: `timeout`, `cancel` or `lost`."""
        self._reason = self._reason or reason
        if self._keeper is not None:
            self._keeper.tell({"do": "kill", "reason": reason})
            self._timer = asyncio.get_running_loop().call_later(5.0, self._keeper.close)

    def was_stopped_for_its_lease(self, result: EvaluationResult) -> bool:
        """Whether the result only says that this worker stopped the child because the lease had passed on."""
        return self._reason == "lost" and result.outcome is Outcome.KILLED

    def lost(self, error: str) -> EvaluationResult:
        """The result of a last attempt whose keeper ended before its report."""
        return EvaluationResult(
            id=self.lease.entry.id,
            tenant=self.lease.entry.tenant,
            outcome=Outcome.LOST,
            error=error,
            queued_ms=self.lease.queued_ms,
            attempt=self.lease.attempt,
            worker=self._worker,
            metadata=self.payload.get("metadata", {}),
            traceparent=self.lease.entry.traceparent,
        )

    def _watch(self, tell: bool) -> None:
        assert self._keeper is not None
        if tell:
            self._keeper.tell(self._watch_frame())
        remaining = max(0.0, self._timeout - WATCH_AFTER)
        self._timer = asyncio.get_running_loop().call_later(remaining, self.kill, self._overdue)

    def _watch_frame(self) -> dict[str, Any]:
        limits = {name: self.payload[name] for name in ("memory", "processes", "cpu", "output")}
        return {"do": "watch", "stream": self.streams, **limits}

    def _request(self) -> bytes:
        payload = self.payload
        code = payload.get("code", "").encode()
        if self._says_only_code():
            return frames.pack_plain(code)
        stdin = payload.get("stdin", b"")
        header: dict[str, Any] = {"args": payload.get("args", []), "env": payload.get("env", {})}
        header["rlimits"] = _rlimits(self._limits, payload["memory"], payload["cpu"])
        if "command" in payload:
            header["command"] = payload["command"]
        return frames.pack(header, code, stdin.encode() if isinstance(stdin, str) else stdin)

    def _says_only_code(self) -> bool:
        payload, limits = self.payload, self._limits
        extras = any(payload.get(name) for name in ("command", "args", "env", "stdin"))
        return not extras and payload["memory"] == limits.memory and payload["cpu"] == limits.timeout

    def _result(
        self, header: dict[str, Any], stdout: bytes, stderr: bytes, report: bytes, seconds: float
    ) -> EvaluationResult:
        outcome, error, exit_code = self._verdict(header, _read_report(report))
        cut = header["cut"]
        return EvaluationResult(
            id=self.lease.entry.id,
            tenant=self.lease.entry.tenant,
            outcome=outcome,
            exit_code=exit_code,
            stdout=stdout.decode("utf-8", "replace"),
            stderr=stderr.decode("utf-8", "replace"),
            error=error,
            duration_ms=seconds * 1000,
            cpu_ms=header["cpu"] * 1000,
            max_rss=header["max_rss"],
            queued_ms=self.lease.queued_ms,
            attempt=self.lease.attempt,
            worker=self._worker,
            truncated=tuple(name for name, left_out in zip(("stdout", "stderr"), cut, strict=True) if left_out),
            stdout_bytes=header["totals"][0],
            stderr_bytes=header["totals"][1],
            metadata=self.payload.get("metadata", {}),
            traceparent=self.lease.entry.traceparent,
        )

    def _verdict(self, header: dict[str, Any], report: dict[str, Any]) -> tuple[Outcome, str, int | None]:
        status, reason = header["status"], header["reason"]
        killed_by = status & 0x7F
        exit_code = -killed_by if killed_by else status >> 8
        if reason and killed_by == signal.SIGKILL:
            return *_KILLED_BY_US.get(reason, (Outcome.KILLED, f"ended by the worker ({reason})")), exit_code
        if killed_by == signal.SIGXCPU or (killed_by == signal.SIGKILL and header["cpu"] >= self.payload["cpu"]):
            return *_KILLED_BY_US["cpu"], exit_code
        if killed_by == signal.SIGXFSZ:
            return Outcome.DISK_LIMIT, "a file grew above the scratch limit", exit_code
        if killed_by:
            return Outcome.KILLED, f"ended by signal {_signal_name(killed_by)}", exit_code
        if exit_code == 0:
            return Outcome.SUCCEEDED, "", 0
        if report.get("memory") is True:
            return *_KILLED_BY_US["memory"], exit_code
        return Outcome.FAILED, str(report.get("error", "")) or f"exit status {exit_code}", exit_code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _read_report(raw: bytes) -> dict[str, Any]:
    """What the child said of its exception; hostile text, so anything may be in it."""
    try:
        report = json.loads(raw.decode("utf-8", "replace")) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def _decoding(on_output: OnOutput) -> Callable[[str, bytes], None]:
    decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}

    def take(name: str, chunk: bytes) -> None:
        text = decoders[name].decode(chunk)
        if text:
            on_output([(name, text)])

    return take
