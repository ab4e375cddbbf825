"""The zygote: exec'd once with an empty environment, imports the template, forks keepers on request.

Single-threaded and never touched by evaluated code. It reaps keepers and whatever a dead keeper leaves behind, and
ends with the supervisor.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import select
import signal
import site
import socket
import sys
from typing import Any

from worker.kernel import child, frames, scratch, system, tree
from worker.kernel.keeper import Keeper

TEMPLATE = (
    "bisect",
    "collections",
    "datetime",
    "functools",
    "heapq",
    "itertools",
    "json",
    "linecache",
    "math",
    "operator",
    "re",
    "string",
    "time",
    "traceback",
    "typing",
)
"""Standard modules that many evaluations import and whose pages cost a fork little; `random` and `dataclasses` (with
`inspect`) are left out because each makes every fork a fifth slower, whether it is used or not."""


def main(control_fd: int, folder: str) -> None:
    """Serve until the control socket ends.

    Args:
        control_fd: a unix stream socket; each frame asks for one keeper and carries its two sockets.
        folder: scratch folder of this zygote, removed when the supervisor is gone.
    """
    control = socket.socket(fileno=control_fd)
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
    _be_the_first_to_go()
    _warm_up()
    Zygote(control, folder).run()


def _be_the_first_to_go() -> None:
    """When the container runs out of memory the kernel shall end an evaluation, not the supervisor."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        return


def _warm_up() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in TEMPLATE:
        importlib.import_module(name)
    site.setquit()
    site.setcopyright()
    site.sethelper()
    # The first compile() creates the interpreter's AST types: 1.4 ms that no child should pay.
    compile("def f(x):\n    return x", "<warm>", "exec")
    for name in [name for name in sys.modules if name.partition(".")[0] == "worker"]:
        del sys.modules[name]
    child.set_stage()
    gc.collect()
    gc.freeze()
    gc.disable()


class Zygote:
    """The loop of the zygote process."""

    def __init__(self, control: socket.socket, folder: str) -> None:
        self._control = control
        self._scratch = folder
        self._keepers: dict[int, int] = {}
        self._names: dict[int, str] = {}

    def run(self) -> None:
        """Fork keepers until the supervisor goes away."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        self._control.sendall(frames.pack({"do": "ready"}))
        while True:
            for fd, _ in poller.poll():
                if fd == self._control.fileno():
                    self._obey(poller)
                elif fd in self._keepers:
                    poller.unregister(fd)
                    self._bury(fd)

    def _obey(self, poller: select.poll) -> None:
        try:
            data, passed, _, _ = socket.recv_fds(self._control, 65536, 2)
        except ConnectionResetError:  # the supervisor ended with words of ours unread
            data, passed = b"", []
        if not data or len(passed) != 2:
            for pid in self._keepers.values():
                tree.kill(pid)
            tree.end(tree.Usage())
            self._remove_scratch()
            os._exit(0)
        ((header, _),) = frames.FrameReader().feed(data)
        pid = os.fork()
        if pid == 0:
            self._become_keeper(passed, header)  # never returns
        for fd in passed:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._keepers[pidfd] = pid
        self._names[pidfd] = header["name"]
        poller.register(pidfd, select.POLLIN)

    def _remove_scratch(self) -> None:
        """The supervisor is gone, perhaps without a word: nobody else would remove what its evaluations wrote."""
        _remove(self._scratch)

    def _become_keeper(self, passed: list[int], header: dict[str, Any]) -> None:
        """Set the descriptors where a child expects them: 3 is its report's, 4 the requests, 5 our control.

        A keeper is not killed with the zygote: it ends when its control socket does, after its evaluation's tree.
        """
        control, requests = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in passed)
        os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), child.REPORT_FD, inheritable=False)
        os.dup2(requests, child.REQUESTS_FD, inheritable=False)
        os.dup2(control, child.FIRST_FOREIGN_FD, inheritable=False)
        os.closerange(child.FIRST_FOREIGN_FD + 1, 1 << 20)
        folder = os.path.join(self._scratch, header["name"])
        try:
            os.makedirs(folder, 0o700)  # the last keeper of a zygote before this one may have removed what is above
            os.environ.update(HOME=folder, TMPDIR=folder)
            Keeper(folder, header["rlimits"]).run()
        finally:
            os._exit(1)

    def _bury(self, pidfd: int) -> None:
        """Reap a keeper, tell how it ended, end what its evaluation left to this process and remove what it wrote."""
        _, status = os.waitpid(self._keepers.pop(pidfd), 0)
        name = self._names.pop(pidfd)
        self._tell({"do": "ended", "name": name, "status": status})
        os.close(pidfd)
        keepers = set(self._keepers.values())
        while True:
            strays = [pid for pid in tree.descendants(os.getpid()) if self._is_stray(pid, keepers)]
            if not strays:
                _remove(os.path.join(self._scratch, name))
                return
            for pid in strays:
                tree.kill(pid)
            for pid in strays:
                _reap(pid)

    def _tell(self, header: dict[str, Any]) -> None:
        try:
            self._control.sendall(frames.pack(header))
        except OSError:
            return  # the supervisor is gone: the next poll sees it

    def _is_stray(self, pid: int, keepers: set[int]) -> bool:
        below = {one for keeper in keepers for one in (keeper, *tree.descendants(keeper))}
        return pid not in below


def _remove(folder: str) -> None:
    if os.path.isdir(folder) and scratch.empty(folder):
        os.rmdir(folder)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return  # another stray's child: it comes to us in the next round
