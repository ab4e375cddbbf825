"""A primary, its replicas and three sentinels on this machine, each a process of its own."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from executor.errors import ExecutorError
from executor.settings import load
from executor.streams.channel import Channel, pairs
from tests.support.wait import wait_until

SERVICE = "cell"
_PASSWORD, _SENTINEL_PASSWORD = "secret-server", "secret-sentinel"
_DOWN_MS = 1000


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in with_sockets]
    for one in with_sockets:
        one.close()
    return ports


class Node:
    """One server or sentinel."""

    def __init__(self, folder: Path, port: int, program: str, lines: Sequence[str], *, password: str, url: str) -> None:
        self.port = port
        self.url = url.format(password=password, port=port)
        self._program = program
        self._is_sentinel = password == _SENTINEL_PASSWORD
        self._folder = folder
        folder.mkdir(parents=True)
        common = ["bind 127.0.0.1", f"dir {folder}", f"logfile {folder / 'log'}", f"requirepass {password}"]
        (folder / "conf").write_text("\n".join([*common, *lines]) + "\n")
        self.start()

    def start(self) -> None:
        """Start it, or start it again on what it has on disk."""
        command = [self._program, str(self._folder / "conf"), *(["--sentinel"] if self._is_sentinel else [])]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent)  # noqa: PLW1509

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it is there and says nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever it does."""
        if self._process.poll() is None:
            self.kill()

    async def ask(self, *command: str) -> Any:
        """The reply to one command, on a connection of its own."""
        channel = Channel(self.url, load({}).server, "looking")
        try:
            return await channel.call(*command)
        finally:
            await channel.close()

    async def role(self) -> str:
        """`master`, `slave`, or empty while it does not answer."""
        with suppress(ExecutorError):
            return str((await self.ask("ROLE"))[0].decode())
        return ""


class Failover:
    """Two servers and who watches them.

    Attributes:
        servers: the first one began as the primary.
        url: for programs, by way of the sentinels.
    """

    def __init__(
        self,
        folder: Path,
        program: str,
        extra: Sequence[str] = (),
        replicas: int = 1,
        tls: Sequence[str] = (),
        query: str = "",
    ) -> None:
        """Start them.

        Args:
            folder: for their data.
            program: the server.
            extra: further lines of every server's configuration.
            replicas: how many.
            tls: lines that make servers and sentinels speak TLS; none: they do not.
            query: options of the addresses.
        """
        ports = free_ports(4 + replicas)
        scheme = "rediss" if tls else "redis"
        url = f"{scheme}://:{{password}}@127.0.0.1:{{port}}?{query}"
        lines = ["appendonly yes", "appendfsync everysec", 'save ""', "repl-diskless-sync-delay 0"]
        lines += [f"masterauth {_PASSWORD}", *extra]

        def listening(port: int) -> list[str]:
            return [f"tls-port {port}", "port 0", *tls] if tls else [f"port {port}"]

        self.servers = [
            Node(
                folder / f"server-{port}",
                port,
                program,
                [*listening(port), *lines, *([f"replicaof 127.0.0.1 {ports[0]}"] if port != ports[0] else [])],
                password=_PASSWORD,
                url=url,
            )
            for port in ports[:-3]
        ]
        watch = [f"sentinel monitor {SERVICE} 127.0.0.1 {ports[0]} 2", f"sentinel auth-pass {SERVICE} {_PASSWORD}"]
        watch += [
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_MS}",
            f"sentinel failover-timeout {SERVICE} 10000",
        ]
        self.sentinels = [
            Node(
                folder / f"sentinel-{port}",
                port,
                program,
                [*listening(port), *watch],
                password=_SENTINEL_PASSWORD,
                url=url,
            )
            for port in ports[-3:]
        ]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[-3:])
        options = "&".join(part for part in (f"sentinel_password={_SENTINEL_PASSWORD}", query) if part)
        self.url = f"{scheme}+sentinel://:{_PASSWORD}@{hosts}/{SERVICE}?{options}"

    async def ready(self) -> None:
        """Wait until every sentinel knows of the replica and of the two others."""

        async def known(sentinel: Node) -> bool:
            with suppress(ExecutorError):
                facts = pairs(await sentinel.ask("SENTINEL", "MASTER", SERVICE))
                seen = (facts[b"flags"], facts[b"num-slaves"], facts[b"num-other-sentinels"])
                return seen == (b"master", str(len(self.servers) - 1).encode(), b"2")
            return False

        for sentinel in self.sentinels:
            await wait_until(lambda sentinel=sentinel: known(sentinel), "the sentinels know each other", 40)  # type: ignore[misc]

        async def linked() -> bool:
            return len((await self.servers[0].ask("ROLE"))[2]) == len(self.servers) - 1

        await wait_until(linked, "the replicas follow", 40)

    async def promoted(self, seconds: float = 60) -> Node:
        """Wait until another server than the first is the primary for most sentinels."""
        first = self.servers[0].port
        named: list[int] = []

        async def is_promoted() -> bool:
            named[:] = [await self._named_by(sentinel) for sentinel in self.sentinels]
            return len(set(named)) == 1 and named[0] != first

        await wait_until(is_promoted, "a replica is promoted", seconds)
        return next(node for node in self.servers if node.port == named[0])

    async def _named_by(self, sentinel: Node) -> int:
        return int((await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE))[1])

    async def clients(self, node: Node) -> list[str]:
        """Names of the programs' connections to a server."""
        text = (await node.ask("CLIENT", "LIST")).decode()
        names = [
            dict(word.partition("=")[::2] for word in line.split(" ")).get("name", "") for line in text.splitlines()
        ]
        return [name for name in names if name.startswith("executor-") and name != "executor-looking"]

    async def close(self) -> None:
        """End all of them."""
        for node in (*self.sentinels, *self.servers):
            await asyncio.to_thread(node.close)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
