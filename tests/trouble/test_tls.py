"""TLS with a private authority and client certificates: every program speaks it, and what is wrong is said."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import copyfile

import pytest

from executor.errors import Misconfigured, ServerUnavailable
from executor.settings import load
from executor.streams.channel import Channel
from tests.support.certificates import Authority
from tests.support.command import execute
from tests.support.failover import Failover, Node, Shape, free_ports
from tests.support.servers import with_tls
from tests.support.stack import Stack
from tests.support.wait import wait_until


class Secure:
    """A server that speaks TLS on one port and nothing else on another."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "certificates")
        self.port, self.plain = free_ports(2)
        self.query = self.authority.query()
        lines = [
            "requirepass secret",
            f"port {self.plain}",
            f"tls-port {self.port}",
            "appendonly yes",
            *self.authority.server_lines(),
        ]
        self.node = Node(folder / "server", self.port, with_tls(), lines, self.url())

    async def answers(self) -> bool:
        return await self.node.role() == "master"

    def url(self, query: str | None = None, scheme: str = "rediss", port: int = 0, host: str = "localhost") -> str:
        return f"{scheme}://:secret@{host}:{port or self.port}?{self.query if query is None else query}"


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Secure]:
    running = Secure(tmp_path)
    try:
        await wait_until(running.answers, "the server answers")
        yield running
    finally:
        running.node.close()


async def ping(url: str, **variables: str) -> object:
    channel = Channel(url, load(variables).server, "test")
    try:
        return await channel.call("PING")
    finally:
        await channel.close()


async def test_every_program_speaks_tls(secure: Secure) -> None:
    stack = Stack(secure.url(), "t")
    try:
        await stack.dispatcher()
        await stack.worker()
        result = await stack.client.run("print(6*7)", wait_timeout=30)
        done = await execute(stack.environ, "submit", "-c", "print(6*7)", "--wait-timeout", "30")
        doctor = await execute(stack.environ, "doctor", "--no-cluster", "--json")
    finally:
        await stack.close()

    assert (result.stdout, done.stdout) == ("42\n", "42\n")
    assert doctor.json["error"] == 0, doctor.stdout


async def test_what_is_wrong_with_the_certificates_is_said(secure: Secure, tmp_path: Path) -> None:
    own, other = secure.authority, Authority(tmp_path / "other", "other")
    trusted = f"ssl_ca_certs={own.certificate}"
    for query, reason in (
        ("", "name the CA's file with ssl_ca_certs in REDIS_URL"),
        (f"ssl_ca_certs={other.certificate}", "its certificate is not trusted"),
        (trusted, "wants a client's certificate"),
        (
            trusted + "&" + other.query().partition("&")[2],
            "does not trust the client's certificate|or one of another CA",
        ),
        (f"ssl_ca_certs={own.certificate.with_suffix('.ext')}x", "No such file"),
    ):
        with pytest.raises((ServerUnavailable, Misconfigured), match=reason):
            await ping(secure.url(query))
    garbage = tmp_path / "garbage"
    garbage.write_text("not a certificate")
    with pytest.raises(ServerUnavailable, match=r"its certificates cannot be used .*: mend the files"):
        await ping(secure.url(f"ssl_ca_certs={garbage}"))


async def test_a_certificate_for_another_name_or_of_another_day_is_named(tmp_path: Path) -> None:
    for names, days, reason in (
        ("DNS:elsewhere.example", 2, "use the name in REDIS_URL that it is for"),
        ("DNS:localhost", -1, "its certificate has expired: renew it"),
    ):
        authority = Authority(tmp_path / reason[:3])
        lines = authority.server_lines()
        authority.sign("server", names, days)
        (port,) = free_ports(1)
        url = f"rediss://localhost:{port}?{authority.query()}"
        listening = ["port 0", f"tls-port {port}"]
        started = Node(tmp_path / f"server-{port}", port, with_tls(), [*listening, *lines], url)
        lenient = f"{started.url}&ssl_cert_reqs=none"
        try:

            async def answers(url: str = lenient) -> bool:
                try:
                    return await ping(url) == b"PONG"
                except ServerUnavailable:
                    return False

            await wait_until(answers, "it answers those who do not look")
            with pytest.raises(ServerUnavailable, match=reason):
                await ping(started.url)
        finally:
            started.close()


async def test_a_port_of_the_other_kind_is_named(secure: Secure) -> None:
    with pytest.raises(ServerUnavailable, match="that is a rediss:// address"):
        await ping(secure.url("", scheme="redis"))
    with pytest.raises(ServerUnavailable, match="that is a redis:// address"):
        await ping(secure.url(port=secure.plain), EXECUTOR_CONNECT_TIMEOUT="1")
    with pytest.raises(Misconfigured, match="'ssl_ca_certs' is no option here; those of TLS are for rediss://"):
        await ping(secure.url(scheme="redis", port=secure.plain))


async def test_a_renewed_certificate_is_taken_at_the_next_connection(secure: Secure, tmp_path: Path) -> None:
    """As cert-manager and the kubelet do it: the file is another one, and the program is not restarted."""
    certificate, key = (tmp_path / "current.crt", tmp_path / "current.key")
    other = Authority(tmp_path / "other", "other").sign("client")
    own = secure.authority.sign("client")
    query = f"ssl_ca_certs={secure.authority.certificate}&ssl_certfile={certificate}&ssl_keyfile={key}"
    for source, target in zip(other, (certificate, key), strict=True):
        copyfile(source, target)
    channel = Channel(secure.url(query), load({}).server, "test")
    try:
        with pytest.raises(ServerUnavailable, match=r"does not trust the client's certificate|or one of another CA"):
            await channel.call("PING")
        for source, target in zip(own, (certificate, key), strict=True):
            copyfile(source, target)
            os.utime(target, ns=(1, 1))
        assert await channel.call("PING") == b"PONG"
    finally:
        await channel.close()


@pytest.mark.timeout(180)
async def test_sentinels_and_servers_with_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    failover = Failover(
        tmp_path / "nodes", with_tls(), Shape(tls=tuple(authority.server_lines()), query=authority.query())
    )
    stack = Stack(failover.url, "t", EXECUTOR_LEASE="2")
    try:
        await failover.ready()
        await stack.dispatcher()
        await stack.worker()
        assert (await stack.client.run("print(1)", wait_timeout=30)).stdout == "1\n"
        failover.servers[0].kill()
        await failover.promoted()
        assert (await stack.client.run("print(2)", wait_timeout=60)).stdout == "2\n"
    finally:
        await stack.close()
        await failover.close()
