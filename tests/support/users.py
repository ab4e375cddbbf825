"""The users of k8s/base/redis-users.sh, as the manifests print them."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from executor.client import Client
from executor.errors import ExecutorError, NotAuthorized
from executor.settings import load
from executor.streams.server import Cell
from tests.support.servers import server_program, version_of
from tests.support.stack import Stack
from tests.support.wait import wait_until

BASE: Final = Path(__file__).parents[2] / "k8s" / "base"
ROLES: Final = ("dispatcher", "worker", "agent", "scaler", "caller", "doctor", "admin")


def knows_setinfo() -> bool:
    """Whether the server has CLIENT SETINFO, which came with 7.2."""
    return "v=7.0." not in version_of(server_program())


def printed_users(**more: str) -> str:
    """The ACL file; the password of each role is `secret-ROLE`."""
    urls = {
        f"{role.upper()}_URL": f"redis://{role}:secret-{role}@executor-redis:6379/0"
        for role in ROLES
        if role != "scaler"
    }
    environ = {"PATH": "/usr/bin:/bin", "SCALER_PASSWORD": "secret-scaler", **urls, **more}
    if not knows_setinfo():
        environ["SETINFO"] = ""
    return subprocess.run(
        ["sh", str(BASE / "redis-users.sh")], env=environ, capture_output=True, text=True, check=True
    ).stdout


class Cluster:
    """A server with the users of the manifests, and connections as each of them."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._cells: list[Cell] = []
        self._stacks: list[Stack] = []

    def url(self, user: str) -> str:
        return f"unix://{user}:secret-{user}@{self._socket}"

    def caller(self) -> Client:
        return Client(self.url("caller"), settings=load({}))

    def stack(self, role: str, **variables: str) -> Stack:
        stack = Stack(self.url(role), "executor", **variables)
        self._stacks.append(stack)
        return stack

    async def call(self, role: str, *command: str | int) -> Any:
        settings = load({})
        cell = Cell(self.url(role), settings.server, settings.delivery)
        try:
            return await cell.channel("test").call(*command)
        finally:
            await cell.close()

    async def answers(self) -> bool:
        try:
            return bool(await self.call("boss", "PING"))
        except ExecutorError:
            return False

    async def denied(self, role: str, *command: str | int) -> bool:
        try:
            await self.call(role, *command)
        except NotAuthorized:
            return True
        return False

    async def log(self) -> list[str]:
        """What the server refused, as `user command-or-key`."""
        rows: list[Any] = await self.call("boss", "ACL", "LOG")
        entries = [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
        return [f"{one[b'username'].decode()} {one[b'object'].decode()}" for one in entries]

    async def close(self) -> None:
        for stack in self._stacks:
            await stack.close()


@asynccontextmanager
async def server_with_users(folder: Path, **more: str) -> AsyncIterator[Cluster]:
    """The server of the manifests: their configuration and their users, on a socket, and `boss` to look with."""
    users, socket = folder / "users.acl", folder / "server.sock"
    users.write_text(printed_users(**more) + "user boss on >secret-boss allchannels ~* +@all\n")
    own = {"dir": folder, "port": 0, "unixsocket": socket, "aclfile": users, "logfile": folder / "log"}
    options = [str(word) for name, value in own.items() for word in (f"--{name}", value)]
    process = subprocess.Popen([server_program(), str(BASE / "redis.conf"), *options])
    try:
        running = Cluster(str(socket))
        await wait_until(running.answers, "the server answers")
        yield running
        await running.close()
    finally:
        process.terminate()
        process.wait()
