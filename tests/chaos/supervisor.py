"""Keeps programs running, as a kubelet would: what ended is started again, under a new name."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import children, state

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PAUSE = 0.2
"""Seconds between an end and the next start."""


@dataclass(frozen=True, slots=True)
class Command:
    """How one program is started.

    Attributes:
        words: argument list.
        environ: whole environment.
        folder: working directory.
    """

    words: list[str]
    environ: Mapping[str, str]
    folder: Path


class Kept:
    """One program that is kept running.

    Attributes:
        role: what it is.
        process: the one that runs; None between two.
        generation: how often it was started.
        done: set when it ended with status 0 by itself, or was told to stop.
    """

    def __init__(self, role: str, make: Callable[[str], Command], log: Path) -> None:
        self.role = role
        self.process: asyncio.subprocess.Process | None = None
        self.generation = 0
        self.done = asyncio.Event()
        self._make = make
        self._log = log
        self._wanted = True
        self._started = asyncio.Event()
        self._may_start = asyncio.Event()
        self._may_start.set()
        self._task = asyncio.create_task(self._keep(), name=role)

    @property
    def name(self) -> str:
        """Of the incarnation that runs, like a pod's."""
        return f"{self.role}-{self.generation}"

    @property
    def pid(self) -> int:
        """Of the process that runs; 0 between two."""
        return self.process.pid if self.process is not None else 0

    async def started(self) -> None:
        """Wait until it runs (again)."""
        await self._started.wait()

    def pause(self) -> None:
        """Do not start it again when it ends."""
        self._may_start.clear()

    def resume(self) -> None:
        """Start it again as before."""
        self._may_start.set()

    async def stop(self, number: int = signal.SIGTERM, patience: float = 40) -> None:
        """End it for good; killed when it does not end within `patience` seconds."""
        self._wanted = False
        self.resume()
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.send_signal(number)
        try:
            await asyncio.wait_for(asyncio.shield(self._task), patience)
        except TimeoutError:
            if self.process is not None:
                self.process.kill()
            await self._task

    async def _keep(self) -> None:
        try:
            while True:
                self.generation += 1
                if await self._run_once() == 0 and self._may_start.is_set():
                    return
                await self._may_start.wait()
                if not self._wanted:
                    return
                await asyncio.sleep(_PAUSE)  # not the whole of a crash loop's back-off, and not none
        finally:
            self.done.set()
            self._started.set()

    async def _run_once(self) -> int:
        command = self._make(self.name)
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command.words,
                env=dict(command.environ),
                cwd=command.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._started.set()
        status = await self.process.wait()
        self._started.clear()
        self.process = None
        return status


class Supervisor:
    """All kept programs of a run; whatever they leave behind comes to this process, and is seen."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._kept: list[Kept] = []
        self._dead: set[int] = set()
        self._libc = ctypes.CDLL(None)
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._reaper = asyncio.create_task(self._reap(), name="reaper")

    def keep(self, role: str, make: Callable[[str], Command]) -> Kept:
        """Start a program and keep it running.

        Args:
            role: name of the program and of its log.
            make: the command of an incarnation, which is given its name.
        """
        kept = Kept(role, make, self._logs / f"{role}.log")
        self._kept.append(kept)
        return kept

    def of(self, word: str) -> list[Kept]:
        """Programs whose role begins so and that run now."""
        return [one for one in self.every(word) if one.pid]

    def every(self, word: str) -> list[Kept]:
        """Programs whose role begins so and that are kept running."""
        return [one for one in self._kept if one.role.startswith(word) and not one.done.is_set()]

    async def close(self) -> None:
        """Take note of nothing more; every program must have been stopped."""
        for kept in self._kept:
            await kept.stop(signal.SIGKILL)
        self._reaper.cancel()
        await asyncio.wait([self._reaper])
        for _ in range(2):
            self.reap()
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(0.2)  # an orphan that comes here and ends has no event of its own
            self.reap()

    def reap(self) -> None:
        """Collect the dead that came to this process from programs that were killed.

        A program that was started here has a waiter, who takes it at once: what is dead at two looks has none.
        """
        dead = {pid for pid in children(os.getpid()) if state(pid) == "Z"}
        for pid in dead & self._dead:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._dead = dead


def die_with_parent() -> None:
    """Between fork and exec: be killed with the process that started this one."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
