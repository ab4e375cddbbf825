"""A primary, its replicas and three sentinels on this machine, each a process of its own."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
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

    def __init__(
        self, folder: Path, port: int, program: str, lines: Sequence[str], url: str, options: Sequence[str] = ()
    ) -> None:
        self.port = port
        self.url = url
        self._folder = folder
        self._command = [program, str(folder / "conf"), *options]
        folder.mkdir(parents=True)
        common = ["bind 127.0.0.1", f"dir {folder}", f"logfile {folder / 'log'}"]
        (folder / "conf").write_text("\n".join([*common, *lines]) + "\n")
        self.start()

    def start(self) -> None:
        """Start it, or start it again on what it has on disk."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent)  # noqa: PLW1509

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


@dataclass(frozen=True, slots=True)
class Shape:
    """What the servers of a failover are like."""

    extra: tuple[str, ...] = ()
    """Further lines of every server's configuration."""
    replicas: int = 1
    tls: tuple[str, ...] = ()
    """Lines that make servers and sentinels speak TLS; none: they do not."""
    query: str = ""
    """Options of the addresses."""
    users: Path | None = None
    """ACL file of the servers, with `boss`, `replica` and `sentinel`; None: everybody is the default user."""


class Failover:
    """Servers and who watches them.

    Attributes:
        servers: the first one began as the primary.
        sentinels: three, of which two decide.
        url: for programs, by way of the sentinels.
    """

    def __init__(self, folder: Path, program: str, shape: Shape | None = None) -> None:
        """Start them, with their data in a folder."""
        self._folder, self._program, self._shape = folder, program, shape or Shape()
        ports = free_ports(4 + self._shape.replicas)
        self._scheme = "rediss" if self._shape.tls else "redis"
        self._hosts = ",".join(f"127.0.0.1:{port}" for port in ports[-3:])
        self.url = self.url_of("boss" if self._shape.users else "", _PASSWORD)
        self.servers = [self._server(port, ports[0]) for port in ports[:-3]]
        self.sentinels = [self._sentinel(port, ports[0]) for port in ports[-3:]]

    def url_of(self, user: str, password: str) -> str:
        """The address for one user of the servers."""
        options = "&".join(part for part in (f"sentinel_password={_SENTINEL_PASSWORD}", self._shape.query) if part)
        return f"{self._scheme}+sentinel://{user}:{password}@{self._hosts}/{SERVICE}?{options}"

    def _server(self, port: int, primary: int) -> Node:
        lines = ["appendonly yes", "appendfsync everysec", 'save ""', "repl-diskless-sync-delay 0", *self._shape.extra]
        if self._shape.users:
            lines += [f"aclfile {self._shape.users}", "masteruser replica", "masterauth secret-replica"]
        else:
            lines += [f"requirepass {_PASSWORD}", f"masterauth {_PASSWORD}"]
        lines += [f"replicaof 127.0.0.1 {primary}"] if port != primary else []
        user = "boss" if self._shape.users else ""
        return self._node("server", port, lines, f"{user}:{_PASSWORD}")

    def _sentinel(self, port: int, primary: int) -> Node:
        lines = [f"requirepass {_SENTINEL_PASSWORD}", f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2"]
        if self._shape.users:
            lines += [f"sentinel auth-user {SERVICE} sentinel", f"sentinel auth-pass {SERVICE} secret-sentinel"]
        else:
            lines += [f"sentinel auth-pass {SERVICE} {_PASSWORD}"]
        lines += [
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_MS}",
            f"sentinel failover-timeout {SERVICE} 10000",
        ]
        return self._node("sentinel", port, lines, f":{_SENTINEL_PASSWORD}")

    def _node(self, kind: str, port: int, lines: Sequence[str], login: str) -> Node:
        listening = [f"tls-port {port}", "port 0", *self._shape.tls] if self._shape.tls else [f"port {port}"]
        url = f"{self._scheme}://{login}@127.0.0.1:{port}?{self._shape.query}"
        options = ("--sentinel",) if kind == "sentinel" else ()
        return Node(self._folder / f"{kind}-{port}", port, self._program, [*listening, *lines], url, options)

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
