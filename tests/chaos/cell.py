"""A cell in processes: server, dispatchers, workers, autoscaler and producers, as their users start them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from executor.keys import warm_lane
from executor.settings import Settings, load
from executor.streams.channel import Channel
from tests.chaos.extras import Extras
from tests.chaos.history import Log
from tests.chaos.logs import MOVED
from tests.chaos.programs import TRUSTED, UNTRUSTED, Program
from tests.chaos.proxy import Proxy
from tests.chaos.server import Servers
from tests.chaos.supervisor import Command, Kept, Supervisor
from tests.support.processes import command_of, state, variable_of
from worker.kernel.tree import descendants

ROOT: Final = Path(__file__).parents[2]
WARM: Final = warm_lane("python")
LEASE: Final = 2.0
JANITOR: Final = 0.5
SLOTS: Final = 2
CREDIT: Final = 24
QUOTAS: Final = {"alpha": ", backlog: 40", "beta": ", concurrency: 6"}
"""In the policy: one tenant is refused now and then and has to come again, one is held back before its lane."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a run is, and how it is made.

    Attributes:
        evaluations: how many are submitted.
        clients: producers with the Python client.
        plain: producers that add with XADD on a socket.
        workers: kept beside those that the autoscaler starts.
        fsync: `always` or `everysec`.
        guarded: whether the server has a replica and sentinels.
        autoscaler: whether job lanes are served, and warm workers added, from zero.
    """

    seed: int
    evaluations: int
    clients: int = 3
    plain: int = 1
    workers: int = 2
    dispatchers: int = 2
    fsync: str = "always"
    guarded: bool = False
    autoscaler: bool = True
    previous: str = "HEAD~1"

    @property
    def forgetful(self) -> tuple[str, ...]:
        """Faults after which the server may not know what it had acknowledged last."""
        return (*(["failover"] if self.guarded else []), *(["server-kill"] if self.fsync != "always" else []))


@dataclass
class Cell:
    """Everything that runs, and what faults need to know of it.

    Attributes:
        log: the driver's own events.
        faketime: library that moves clocks; empty where it is not installed.
        clocks: files by which it moves the clock of a program.
        sent: programs that were accepted, to be sent again.
        previous: folder with another revision's source; None until it is wanted, empty when there is none.
        looking: a connection that no proxy disturbs.
        extras: what the driver submits itself.
    """

    shape: Shape
    folder: Path
    faketime: str = ""
    clocks: list[Path] = field(default_factory=list)
    sent: list[Program] = field(default_factory=list)
    previous: str | None = None

    def __post_init__(self) -> None:
        for name in ("logs", "history", "scratch", "clocks"):
            (self.folder / name).mkdir(exist_ok=True)
        self.started = self.folder / "started"
        self.log = Log(self.folder / "history" / "driver.jsonl")
        self.servers = Servers(self.folder, fsync=self.shape.fsync, guarded=self.shape.guarded)
        self.proxy = Proxy(self.servers.address)
        self.supervisor = Supervisor(self.folder / "logs")
        self.producers: list[Kept] = []
        self._channels: list[Channel] = []
        self._number = 0

    async def start(self) -> None:
        """Start the server, then everything else at once."""
        await self.servers.start()
        await self.proxy.start()
        policy = self.folder / "policy.yaml"
        trusted = "".join(f"  {name}: {{trusted: true{QUOTAS.get(name, '')}}}\n" for name in TRUSTED)
        policy.write_text(f"tenants:\n{trusted}  {UNTRUSTED}: {{trusted: false}}\ncredits: {{{WARM}: {CREDIT}}}\n")
        self.environ = self._environ(self.servers.url())
        self.settings: Settings = load(self.environ)
        self.looking = self.channel("looking")
        self.extras = Extras(self.looking, self.settings, self.log, self.started, forgetful=bool(self.shape.forgetful))
        for number in range(self.shape.dispatchers):
            self.add_dispatcher(clock=number == 1)
        for number in range(self.shape.workers):
            self.add_worker(through_proxy=number == 1, clock=number == 1)
        if self.shape.autoscaler:
            self.supervisor.keep("autoscaler", lambda _: self._command("cli.main", "autoscaler"))

    def add_dispatcher(self, *, clock: bool = False) -> Kept:
        """One more dispatcher."""
        moved = self._clock() if clock else {}

        def make(name: str) -> Command:
            return self._command("cli.main", "dispatcher", variables={**moved, "EXECUTOR_DISPATCHER_ID": name})

        return self.supervisor.keep(f"dispatcher{MOVED if moved else ''}-{self._next()}", make)

    def add_worker(
        self, *, through_proxy: bool = False, clock: bool = False, folder: Path = ROOT, role: str = "warm"
    ) -> Kept:
        """One more warm worker.

        Args:
            through_proxy: whether it reaches the server by the proxy.
            clock: whether its clock can be moved.
            folder: with its source.
            role: first part of its name.
        """
        variables = self._clock() if clock else {}
        role += MOVED if variables else ""
        if through_proxy:
            variables |= {"REDIS_URL": self.servers.url(self.proxy.port)}

        def make(name: str) -> Command:
            return self._command("worker", folder=folder, variables={**variables, "EXECUTOR_ID": name})

        return self.supervisor.keep(f"{role}-{self._next()}", make)

    def add_producers(self, known: Path) -> None:
        """Start submitting; every second client goes through the proxy."""
        for number in range(self.shape.clients + self.shape.plain):
            url = self.servers.url(self.proxy.port if number % 2 else None)
            log = self.folder / "history" / f"producer-{number}.jsonl"
            words = ("tests.chaos.producer", str(known), str(number), str(log))
            command = self._command(*words, variables={"REDIS_URL": url})
            self.producers.append(self.supervisor.keep(f"producer-{number}", partial(_always, command)))

    def channel(self, name: str) -> Channel:
        """A connection for looking and for meddling, that no proxy disturbs."""
        channel = Channel(self.settings.server.url, self.settings.server, name)
        self._channels.append(channel)
        return channel

    def workers(self) -> list[tuple[str, int]]:
        """Name and process id of every warm worker that runs, the autoscaler's too, by name."""
        found = []
        for pid in descendants(os.getpid()):
            if command_of(pid)[1:] == ["-m", "worker"] and state(pid) not in ("Z", ""):
                name = variable_of(pid, "EXECUTOR_ID")
                if variable_of(pid, "MODE") in ("", "warm-pool"):
                    found.append((name, pid))
        return sorted(found)

    async def stop_programs(self) -> None:
        """SIGTERM to everything but the server, in an order that loses nothing."""
        roles = ("producer", "autoscaler", "warm", "previous", "zero", "dispatcher")
        for role in roles:
            await asyncio.gather(*(one.stop() for one in self.supervisor.of(role)))

    async def close(self) -> None:
        """End everything that is left."""
        await self.supervisor.close()
        for channel in self._channels:
            await channel.close()
        await self.proxy.close()
        await self.servers.close()
        self.log.close()

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _clock(self) -> dict[str, str]:
        """Variables that put a program under libfaketime; {} where it is not to be used."""
        if not self.faketime:
            return {}
        file = self.folder / "clocks" / str(self._next())
        file.write_text("+0")
        self.clocks.append(file)
        return {
            "LD_PRELOAD": self.faketime,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def _command(self, *words: str, folder: Path = ROOT, variables: Mapping[str, str] | None = None) -> Command:
        return Command([sys.executable, "-m", *words], {**self.environ, **(variables or {})}, folder)

    def _environ(self, url: str) -> Mapping[str, str]:
        return {
            "PATH": os.environ["PATH"],  # noqa: TID251 handed to the programs
            "REDIS_URL": url,
            "EXECUTOR_PREFIX": "chaos",
            "EXECUTOR_POLICY": str(self.folder / "policy.yaml"),
            "EXECUTOR_LEASE": str(LEASE),
            "EXECUTOR_JANITOR_INTERVAL": str(JANITOR),
            "EXECUTOR_REPLY_TIMEOUT": "1",
            "EXECUTOR_CONNECT_TIMEOUT": "1",
            "EXECUTOR_REPLY_CAP": "100000",
            "EXECUTOR_SLOTS": str(SLOTS),
            "EXECUTOR_SCRATCH_DIR": str(self.folder / "scratch"),
            "EXECUTOR_HEALTH_PORT": "-1",
            "EXECUTOR_LOG": "json",
            "EXECUTOR_LOG_LEVEL": "info",
        }


def library_of_faketime() -> str:
    """Path of libfaketime for programs with threads; empty when it is not installed."""
    places = (
        Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime"),
        Path("/usr/lib/faketime"),
        Path("/usr/lib64/faketime"),
    )
    return next((str(found) for place in places if (found := place / "libfaketimeMT.so.1").exists()), "")


def _always(command: Command, _name: str) -> Command:
    """The same command under every name."""
    return command
