"""Where a server is: an address, or sentinels that know which of several is the primary now.

`redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DB][?OPTION=VALUE...]`; with `rediss+sentinel`
both the sentinels and the servers are reached by TLS. USER and PASSWORD are the servers'; the sentinels' own are the
options `sentinel_username` and `sentinel_password`. Every other option is for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from executor.errors import Misconfigured

SENTINEL_PORT: Final = 26379
_SCHEMES: Final = ("redis+sentinel", "rediss+sentinel")
_FORM: Final = "redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/db]"

HostPort = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says.

    Attributes:
        server: URL of the server; with sentinels its host stands for whichever is the primary.
        sentinels: host and port of each; empty where the server has an address of its own.
        service: the name that the sentinels know the primary by.
        sentinel: URL of any sentinel, whose host stands for each of them; empty without.
    """

    server: str
    sentinels: tuple[HostPort, ...] = ()
    service: str = ""
    sentinel: str = ""


def parse_address(url: str) -> Address:
    """Read a URL.

    Raises:
        Misconfigured: it names sentinels and cannot be read; anything else about it is found out by who connects.
    """
    if not url.startswith(tuple(f"{scheme}:" for scheme in _SCHEMES)):
        return Address(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise Misconfigured(f"REDIS_URL: {error}; it is {_FORM}") from None
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or (database and not database.isdecimal()):
        raise Misconfigured(f"REDIS_URL: it is {_FORM}, with the service that the sentinels watch")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    own = [quote(options.pop(f"sentinel_{name}", ""), safe="") for name in ("username", "password")]
    scheme, query = parts.scheme.partition("+")[0], urlencode(options)
    return Address(
        server=f"{scheme}://{login}@primary/{database or 0}?{query}",
        sentinels=tuple(_host_port(host) for host in hosts.split(",")),
        service=unquote(service),
        sentinel=f"{scheme}://{':'.join(own)}@sentinel?{query}",
    )


def _host_port(text: str) -> HostPort:
    host, _, port = (text, "", "") if text.endswith("]") else text.rpartition(":") if ":" in text else (text, "", "")
    if not host or (port and not (port.isascii() and port.isdecimal() and int(port) < 65536)):
        raise Misconfigured(f"REDIS_URL: {text!r} is not a sentinel's host:port; it is {_FORM}")
    return host.strip("[]"), int(port or SENTINEL_PORT)
