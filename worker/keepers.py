"""The supervisor's side of zygote and keepers: start them, hand them evaluations, replace the broken.

There is one keeper more than slots, each with a child forked ahead, so that a request never waits for a fork while
another keeper cleans up. All descriptors are private sockets; frames are capped data (worker/kernel/frames.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from executor.errors import WorkerBroken
from executor.telemetry import KEEPERS_REPLACED
from worker.kernel import frames
from worker.zygotes import Zygote

log = logging.getLogger("worker")

_SAYS_HOW_WITHIN: Final = 0.5
"""Seconds from the end of a keeper's socket to its zygote's word how it ended."""


class Keeper(asyncio.Protocol):
    """One keeper process.

    Attributes:
        on_output: called with (stream name, bytes) while an evaluation runs whose output is wanted live.
    """

    def __init__(self, name: str, requests: socket.socket, on_change: Callable[[Keeper], None]) -> None:
        self.name = name
        self.on_output: Callable[[str, bytes], None] | None = None
        self.broken = False
        self._run = 0
        self._requests = requests
        self._on_change = on_change
        self._frames = frames.FrameReader()
        self._report: asyncio.Future[frames.Frame] | None = None
        self._control: asyncio.Transport | None = None
        self._status: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the control socket."""
        assert isinstance(transport, asyncio.Transport)
        self._control = transport

    def data_received(self, data: bytes) -> None:
        """Take frames: `output`, `done`."""
        try:
            for header, buffers in self._frames.feed(data):
                self._take(header, buffers)
        except (frames.BadFrame, KeyError):
            self.close()

    def _take(self, header: dict[str, Any], buffers: list[bytes]) -> None:
        if header["do"] == "output" and self.on_output is not None:
            self.on_output(header["name"], buffers[0])
        elif header["do"] == "done" and self._report is not None and not self._report.done():
            self._report.set_result((header, buffers))
            if header.get("last"):
                self.close()
            else:
                self._on_change(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """The process has ended: a running evaluation has no report. How it ended its zygote says in a moment."""
        self.broken = True
        self._requests.close()
        wait = _SAYS_HOW_WITHIN if self._status is None else 0
        asyncio.get_running_loop().call_later(wait, self._fail)
        self._on_change(self)

    def ended(self, status: int) -> None:
        """Take the wait status of the process; its report may still be on the way."""
        self._status = status
        if self.broken:
            self._fail()

    def _fail(self) -> None:
        if self._report is not None and not self._report.done():
            self._report.set_exception(WorkerBroken(f"its keeper ended before its report{_how(self._status)}"))

    def start(self, request: bytes, watch: dict[str, Any] | None = None) -> asyncio.Future[frames.Frame]:
        """Hand the next child its request; the future brings the report, or WorkerBroken.

        Args:
            request: the packed frame.
            watch: control frame that the keeper must have before the child can end.
        """
        self._run += 1
        if watch is not None:
            self.tell(watch)
        loop = asyncio.get_running_loop()
        self._report = loop.create_future()
        if self.broken:  # since it was handed out: nothing will tell of it any more
            self._report.set_exception(WorkerBroken("the keeper of an evaluation ended before its start"))
            return self._report
        try:
            sent = self._requests.send(request)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return self._report
        if sent < len(request):
            self._sending = loop.create_task(self._send_rest(request[sent:]), name=f"{self.name}-request")
        return self._report

    async def _send_rest(self, rest: bytes) -> None:
        with suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._requests, rest)

    def tell(self, header: dict[str, Any]) -> None:
        """Send a control frame about the evaluation started last: `watch` or `kill`."""
        if self._control is not None:
            self._control.write(frames.pack({**header, "run": self._run}))

    def close(self) -> None:
        """End the process; it kills its tree when its socket ends."""
        if self._control is not None:
            self._control.abort()


def _how(status: int | None) -> str:
    if status is None:
        return ""
    code = os.waitstatus_to_exitcode(status)
    return f" by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f" with exit status {code}"


class Keepers:
    """All keepers of a worker, and the zygote they come from."""

    def __init__(self, count: int, rlimits: list[tuple[int, int]], zygote: Zygote) -> None:
        self._count = count
        self._rlimits = rlimits
        self._zygote = zygote
        self._control: socket.socket | None = None
        self._serial = 0
        self._keepers: list[Keeper] = []
        self._idle: deque[Keeper] = deque()
        self._waiting: deque[asyncio.Future[Keeper]] = deque()
        self._named: dict[str, Keeper] = {}
        self._failed: WorkerBroken | None = None
        self._mending = asyncio.Lock()
        self._replacing: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self) -> None:
        """Have every keeper forked; they report ready by themselves.

        Raises:
            WorkerBroken: there is no zygote; whoever waits for a keeper hears the same.
        """
        try:
            self._control = await self._zygote.connect()
            await self._greet(self._control)
            self._listen(self._control)
            while len(self._keepers) < self._count:
                await self._add_keeper(self._control)
        except WorkerBroken as error:
            self._fail(error)
            raise

    async def _greet(self, control: socket.socket) -> None:
        try:
            async with asyncio.timeout(30):
                if not await asyncio.get_running_loop().sock_recv(control, 65536):
                    raise WorkerBroken(f"the zygote ended at its start (exit status {self._zygote.status()})")
        except TimeoutError:
            raise WorkerBroken("the zygote does not start within 30 s") from None
        except OSError as error:
            raise WorkerBroken(f"the zygote ended at its start ({error.strerror})") from None

    def _listen(self, control: socket.socket) -> None:
        """Hear from the zygote how keepers ended."""
        reader, loop = frames.FrameReader(), asyncio.get_running_loop()

        def take() -> None:
            try:
                data = control.recv(65536)
                said = reader.feed(data)
            except (OSError, frames.BadFrame):
                data, said = b"", []
            if not data:
                loop.remove_reader(control)
            for header, _ in said:
                keeper = self._named.pop(str(header.get("name")), None)
                if keeper is not None and isinstance(status := header.get("status"), int):
                    keeper.ended(status)

        loop.add_reader(control, take)

    async def _add_keeper(self, zygote: socket.socket) -> None:
        self._serial += 1
        name = f"keeper-{self._serial}"
        control, control_theirs = socket.socketpair()
        requests, requests_theirs = socket.socketpair()
        requests.setblocking(False)
        keeper = Keeper(name, requests, self._changed)
        self._keepers.append(keeper)
        self._named[name] = keeper
        await asyncio.get_running_loop().create_connection(lambda: keeper, sock=control)
        passed = [control_theirs.fileno(), requests_theirs.fileno()]
        try:
            socket.send_fds(zygote, [frames.pack({"do": "keeper", "name": name, "rlimits": self._rlimits})], passed)
        except OSError:
            keeper.close()
        finally:
            control_theirs.close()
            requests_theirs.close()
        self._changed(keeper)

    def _changed(self, keeper: Keeper) -> None:
        if keeper.broken:
            self._keepers.remove(keeper)
            if keeper in self._idle:
                self._idle.remove(keeper)
            if not self._closing:
                KEEPERS_REPLACED.add()
                log.warning("a keeper ended", extra={"keeper": keeper.name})
                task = asyncio.get_running_loop().create_task(self._replace(), name="replace-keeper")
                self._replacing.add(task)
                task.add_done_callback(self._replacing.discard)
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(keeper)
                return
        self._idle.append(keeper)

    async def _replace(self) -> None:
        """Make up for what has ended: one at a time, for several may end at once, and their zygote with them."""
        async with self._mending:
            assert self._control is not None
            if not self._zygote.replaceable:
                self._fail(WorkerBroken("the evaluation container ended before its evaluation"))
            elif self._zygote.status() is not None:
                log.error("the zygote ended and is started again", extra={"status": self._zygote.status()})
                for keeper in list(self._keepers):
                    keeper.close()
                asyncio.get_running_loop().remove_reader(self._control)
                self._control.close()
                self._named.clear()
                self._zygote.spawn()
                await self.start()
            elif len(self._keepers) < self._count:
                await self._add_keeper(self._control)

    def _fail(self, error: WorkerBroken) -> None:
        self._failed = error
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def take(self) -> Keeper | None:
        """The keeper that has been idle longest, whose child is the likeliest to wait ready; None when all are busy."""
        return self._idle.popleft() if self._idle else None

    async def acquire(self) -> Keeper:
        """An idle keeper, as soon as there is one.

        Raises:
            WorkerBroken: there will be none.
        """
        keeper = self.take()
        if keeper is None:
            if self._failed is not None:
                raise self._failed
            waiter: asyncio.Future[Keeper] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            keeper = await waiter
        return keeper

    def disconnect(self) -> None:
        """Let go of every keeper while the event loop still runs; each kills its tree and ends."""
        self._closing = True
        if self._control is not None and self._control.fileno() >= 0:  # it may be done again, at the program's end
            asyncio.get_running_loop().remove_reader(self._control)
        for keeper in list(self._keepers):
            keeper.close()

    def close(self) -> None:
        """End every process and remove what they wrote. Blocks for as long as the kernel needs."""
        if self._control is not None:
            self._control.close()
        self._zygote.close()
