"""The queue server of a run: Valkey with an append-only file, to be killed; where asked, a replica and sentinels."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from pathlib import Path

from cli.embedded import binary
from tests.chaos.resp import has_replica
from tests.chaos.supervisor import die_with_parent

_START = 20.0
_HOST = "127.0.0.1"
SERVICE = "chaos"
"""Name of the primary at its sentinels."""
_QUORUM = 2


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server process, or one sentinel.

    Attributes:
        port: that it listens on.
        up: whether it is meant to run.
    """

    def __init__(self, folder: Path, lines: list[str], *, sentinel: bool = False) -> None:
        self.port = free_port()
        self._folder = folder
        self._lines = lines
        self._sentinel = sentinel
        self._process: asyncio.subprocess.Process | None = None
        folder.mkdir(mode=0o700, parents=True)

    async def start(self) -> None:
        """Start it (again, on the same data and port) and wait until it answers and has loaded its data."""
        config = self._folder / "server.conf"
        if not (self._sentinel and config.exists()):  # a sentinel keeps what it learnt there
            own = [f"bind {_HOST}", f"port {self.port}", f"dir {self._folder}", f"logfile {self._folder / 'log'}"]
            config.write_text("\n".join([*own, *self._lines]) + "\n")
        self._process = await asyncio.create_subprocess_exec(
            binary(),
            str(config),
            *(["--sentinel"] if self._sentinel else []),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        async with asyncio.timeout(_START):
            while not await self._answers():
                await asyncio.sleep(0.01)  # a port that is not listened on yet has no event to wait for

    async def _answers(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise RuntimeError(f"the server ended at its start: {(self._folder / 'log').read_text()[-500:]}")
        try:
            reader, writer = await asyncio.open_connection(_HOST, self.port)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            answer = await reader.read(64)
        except OSError:
            return False
        finally:
            writer.close()
        return answer.startswith((b"+PONG", b"-NOAUTH"))

    async def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def stop(self, number: int) -> None:
        """SIGSTOP or SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    async def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                await self.kill()


class Servers:
    """The server of a cell, alone or with a replica and three sentinels.

    Attributes:
        primary: as it was started; after a failover it is the replica.
        guarded: whether there are a replica and sentinels.
    """

    def __init__(self, folder: Path, *, fsync: str, guarded: bool) -> None:
        self.guarded = guarded
        self.password = secrets.token_urlsafe(12)
        lines = [f"requirepass {self.password}", f"masterauth {self.password}", 'save ""', "appendonly yes"]
        lines += [f"appendfsync {fsync}", "maxmemory-policy noeviction", "repl-diskless-sync-delay 0"]
        self._folder, self._lines = folder, lines
        self.primary = Server(folder / "server-1", lines)
        self._others: list[Server] = []
        self._sentinels: list[Server] = []

    async def start(self) -> None:
        """Start everything."""
        await self.primary.start()
        if self.guarded:
            replica = Server(self._folder / "server-2", [*self._lines, f"replicaof {_HOST} {self.primary.port}"])
            self._others.append(replica)
            await replica.start()
            for number in (1, 2, 3):
                sentinel = Server(self._folder / f"sentinel-{number}", self._sentinel_lines(), sentinel=True)
                self._sentinels.append(sentinel)
                await sentinel.start()
            await self.replicated()

    async def replicated(self) -> None:
        """Wait until the primary has a replica again that follows it."""
        async with asyncio.timeout(_START):
            while not await has_replica(self.url()):
                await asyncio.sleep(0.05)  # it tells nobody here

    @property
    def address(self) -> tuple[str, int]:
        """Where the first primary listens."""
        return _HOST, self.primary.port

    @property
    def sentinel_addresses(self) -> list[tuple[str, int]]:
        """Where the sentinels listen."""
        return [(_HOST, one.port) for one in self._sentinels]

    def url(self, port: int | None = None) -> str:
        """Address for programs, by the primary's port or by another (a proxy's); by Sentinel where there is one."""
        if self.guarded:
            hosts = ",".join(f"{host}:{one}" for host, one in self.sentinel_addresses)
            return f"redis+sentinel://:{self.password}@{hosts}/{SERVICE}"
        return f"redis://:{self.password}@{_HOST}:{port or self.primary.port}"

    def by_port(self, port: int) -> Server:
        """The server that listens there."""
        return next(one for one in [self.primary, *self._others] if one.port == port)

    async def close(self) -> None:
        """End everything."""
        for one in [*self._sentinels, self.primary, *self._others]:
            await one.close()

    def _sentinel_lines(self) -> list[str]:
        return [
            f"sentinel monitor {SERVICE} {_HOST} {self.primary.port} {_QUORUM}",
            f"sentinel auth-pass {SERVICE} {self.password}",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
