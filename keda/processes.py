"""A fleet of worker processes on this machine.

Each replica is one task here: wait out the back-off of its lane, start the process, wait for its end. A worker that
keeps failing at start is slowed down like CrashLoopBackOff, and while it waits it counts as a replica that is not
ready, so that no formula asks for more of them. Nothing is restarted here; the autoscaler asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from keda.fleet import Replica

log = logging.getLogger(__name__)

_SUFFIX: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of a pod's suffix in Kubernetes: no vowels, so no words."""

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What a registry knows of a worker.

    Attributes:
        ready: a pool worker is registered, a one-shot worker has claimed.
        busy: it holds work.
    """

    ready: bool
    busy: bool


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a lane waits before it starts another worker, as a function of the failures in a row.

    Attributes:
        first: seconds after the first failure; doubles with each.
        longest: seconds it never exceeds.
        healthy_after: a worker that lived longer than this many seconds did not fail at start.
    """

    first: float = 1.0
    longest: float = 30.0
    healthy_after: float = 10.0

    def delay(self, failures: int) -> float:
        """Seconds after that many failures in a row."""
        return min(self.first * 2.0 ** min(failures - 1, 64), self.longest) if failures else 0.0


@dataclass(slots=True)
class _Lane:
    """Failures at start of one lane: how many rounds in a row, when the last was, when the next worker may start."""

    failures: int = 0
    failed_at: float = float("-inf")
    not_before: float = float("-inf")


@dataclass(slots=True, eq=False)
class _Child:
    """One replica: first a plan, then a process, at the end only a task that is done."""

    id: str
    lane: str
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None


class ProcessFleet:
    """Replicas as child processes (`keda.fleet.Fleet`).

    A child leads a session of its own, so Ctrl-C reaches only the parent, which drains it. On Linux it is killed
    when the parent dies, however that dies; elsewhere it outlives a killed parent.
    """

    def __init__(
        self,
        command: Callable[[str], list[str]],
        environment: Callable[[str, str], dict[str, str]],
        state: Callable[[str], ReplicaState | None],
        drain_seconds: float,
        *,
        backoff: Backoff | None = None,
    ) -> None:
        """Prepare an empty fleet.

        Args:
            command: argument list of a worker for a lane.
            environment: whole environment of a worker, for a lane and a replica id.
            state: what the registry knows of a replica id; None until it knows it.
            drain_seconds: between SIGTERM and SIGKILL.
            backoff: how failing workers are slowed down.
        """
        self._command = command
        self._environment = environment
        self._state = state
        self._drain_seconds = drain_seconds
        self._backoff = backoff or Backoff()
        self._lanes: dict[str, _Lane] = {}
        self._children: dict[_Child, asyncio.Task[None]] = {}
        self._closed = False

    def replicas(self, lane: str) -> list[Replica]:
        """The replicas of a lane that were not told to stop, oldest first."""
        return [self._replica(child) for child in self._staying(lane)]

    async def start(self, lane: str, count: int) -> None:
        """Add replicas; they count at once and run when the back-off of the lane allows. After `close`: nothing."""
        for _ in range(0 if self._closed else count):
            child = _Child(_replica_id(lane), lane)
            self._children[child] = asyncio.create_task(self._live(child), name=child.id)

    async def stop(self, lane: str, count: int) -> None:
        """Drain replicas: those without a process first, then the unready, the idle, the busy; the youngest of each."""
        youngest_first = self._staying(lane)[::-1]
        for child in sorted(youngest_first, key=self._worth)[:count]:
            child.stop.set()

    async def close(self) -> None:
        """Drain everything, kill what does not drain, wait for all."""
        self._closed = True
        for child in self._children:
            child.stop.set()
        await asyncio.gather(*self._children.values())

    def _staying(self, lane: str) -> list[_Child]:
        return [child for child in self._children if child.lane == lane and not child.stop.is_set()]

    def _replica(self, child: _Child) -> Replica:
        state = None if child.process is None else self._state(child.id)
        return Replica(child.id, ready=state is not None and state.ready, busy=state is not None and state.busy)

    def _worth(self, child: _Child) -> tuple[bool, bool, bool]:
        replica = self._replica(child)
        return replica.busy, replica.ready, child.process is not None

    async def _live(self, child: _Child) -> None:
        lane = self._lanes.setdefault(child.lane, _Lane())
        try:
            if await _happens(child.stop, lane.not_before - time.monotonic()):
                return
            started = time.monotonic()
            try:
                process = await self._spawn(child)
            except OSError as error:
                log.warning("worker cannot be started", extra={"lane": child.lane, "reason": str(error)})
                self._failed(lane, started)
                return
            child.process = process
            code = await self._watch(child, process)
            if code != 0 and not child.stop.is_set():
                log.warning("worker failed", extra={"lane": child.lane, "replica": child.id, "exit_code": code})
            if code == 0 or time.monotonic() - started > self._backoff.healthy_after:
                lane.failures = 0
            elif not child.stop.is_set():
                self._failed(lane, started)
        finally:
            del self._children[child]

    def _failed(self, lane: _Lane, started: float) -> None:
        now = time.monotonic()
        if started > lane.failed_at:  # else it was started together with one that failed already: the same round
            lane.failures += 1
        lane.failed_at = now
        lane.not_before = now + self._backoff.delay(lane.failures)

    async def _spawn(self, child: _Child) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command(child.lane),
            env=self._environment(child.lane, child.id),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_DieWithParent() if sys.platform == "linux" else None,
        )

    async def _watch(self, child: _Child, process: asyncio.subprocess.Process) -> int:
        """Wait for the end of a process; once told to stop, SIGTERM and then SIGKILL to its whole session."""
        ended = asyncio.create_task(process.wait(), name=f"{child.id} ends")
        told = asyncio.create_task(child.stop.wait(), name=f"{child.id} is told to stop")
        try:
            await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await asyncio.wait((ended,), timeout=self._drain_seconds)
            if not ended.done():
                log.warning("worker did not drain in time: killed", extra={"lane": child.lane, "replica": child.id})
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            return await ended
        finally:
            told.cancel()


class _DieWithParent:
    """Runs in the child between fork and exec: ask the kernel for SIGKILL when the parent is gone.

    A `preexec_fn` may deadlock where it needs a lock that another thread held at the fork. So everything is looked up
    before the fork and the child makes two system calls only. The kernel watches the thread that forked: the event
    loop must run in one that lives as long as the fleet, as the main thread does.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._prctl = ctypes.CDLL(None).prctl

    def __call__(self) -> None:
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._parent:  # it died before the line above
            os._exit(1)


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event is set now or within that many seconds."""
    if seconds > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _replica_id(lane: str) -> str:
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
    return f"worker-{lane.replace('.', '-')}-{suffix}"
