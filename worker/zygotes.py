"""Where a worker's children come from: a zygote of its own, or the one in the evaluation container beside it.

Either way the supervisor ends up with one unix stream socket to a zygote (worker/kernel/zygote.py), over which it
asks for keepers and passes each its sockets. Descriptors cross from container to container of one pod like that
too, so a Job pod needs no protocol of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from executor.errors import Misconfigured, WorkerBroken
from worker import kernel

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Zygote(Protocol):
    """A source of keepers.

    Attributes:
        replaceable: whether a keeper or zygote that ended can be had anew.
    """

    replaceable: bool

    def spawn(self) -> None:
        """Begin to make one; it boots while the caller goes on."""

    async def connect(self) -> socket.socket:
        """The connection to it, blocking off; its first frame says that it is ready.

        Raises:
            WorkerBroken: there will be none.
        """

    def status(self) -> int | None:
        """Exit status once it has ended, as far as it can be known from here."""

    def close(self) -> None:
        """Remove what is left when its connection is closed. Blocks for as long as the kernel needs."""


class LocalZygote:
    """A zygote exec'd by this process with an empty environment."""

    replaceable = True

    def __init__(self, scratch: str = "") -> None:
        """Make one at once.

        Args:
            scratch: folder for the scratch folder; empty: the system's temporary folder.

        Raises:
            Misconfigured: the folder cannot be written.
        """
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="executor-scratch-", dir=scratch or None))
        except OSError as error:
            where = scratch or tempfile.gettempdir()
            raise Misconfigured(f"EXECUTOR_SCRATCH_DIR: {where}: {error.strerror}") from error
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self.spawn()

    def spawn(self) -> None:
        """Start the process."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._process = subprocess.Popen(
            kernel.command(sys.executable, theirs.fileno(), str(self._folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": _PATH, "LANG": "C.UTF-8"},
            cwd="/",
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    async def connect(self) -> socket.socket:
        """The connection made with the process."""
        assert self._control is not None
        self._control.setblocking(False)
        return self._control

    def status(self) -> int | None:
        """Exit status of the process, None while it runs."""
        return self._process.poll() if self._process else None

    def close(self) -> None:
        """Let go of the process, wait for it, remove its scratch folder."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class PodZygote:
    """The zygote of the evaluation container in this pod: it connects to a socket in a shared volume, once.

    The socket is gone as soon as it has, so that evaluated code finds nothing to talk to.
    """

    replaceable = False

    def __init__(self, path: str, patience: float) -> None:
        """Listen at once: the evaluation container may start at any time after the claim.

        Args:
            path: of the socket.
            patience: seconds that the container may take to start.

        Raises:
            Misconfigured: the path cannot be listened on.
        """
        self._path = Path(path)
        self._patience = patience
        self._control: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        try:
            self._path.unlink(missing_ok=True)
            self._listener.bind(path)
            self._path.chmod(0o660)  # the containers share a group, not a user
            self._listener.listen(1)
        except OSError as error:
            self._listener.close()
            raise Misconfigured(f"EXECUTOR_AGENT_SOCKET: {path}: {error.strerror}") from error

    def spawn(self) -> None:
        """Nothing: the kubelet starts it."""

    async def connect(self) -> socket.socket:
        """Wait for the one connection."""
        try:
            async with asyncio.timeout(self._patience):
                self._control, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        except TimeoutError:
            raise WorkerBroken(f"the evaluation container did not start within {self._patience:g} s") from None
        finally:
            self._stop_listening()
        self._control.setblocking(False)
        return self._control

    def status(self) -> int | None:
        """Unknown here: the kubelet knows."""
        return None

    def close(self) -> None:
        """Stop listening; a container that comes now finds nothing to do."""
        self._stop_listening()

    def _stop_listening(self) -> None:
        self._listener.close()
        with suppress(OSError):
            os.unlink(self._path)
