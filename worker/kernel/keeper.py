"""The keeper: runs one evaluation at a time in a fresh child, and nothing of the evaluation outlives its word.

It forks the next child ahead, so that a request meets a process that is ready. While a short evaluation runs it only
waits for the child's end; the supervisor sends `watch` after some milliseconds, and from then on it reads output as it
comes and samples the process tree against the limits. Then it ends the whole tree, empties the scratch directory,
reports, and forks the next child.
"""

from __future__ import annotations

import os
import select
import time
from typing import Any, NoReturn

from worker.kernel import child, frames, scratch, system, tree
from worker.kernel.capture import CHUNK, Capture

SAMPLE_SECONDS = 0.02
OUTPUT_CEILING = 16
"""Keep in step with executor.settings.OUTPUT_CEILING (a test compares them)."""
DEFAULT_KEEP = 1 << 20
"""Bytes kept of a stream whose evaluation ended before it was watched: more than a pipe can hold."""

_CONTROL = child.FIRST_FOREIGN_FD
_REPORT_BYTES = 16384


_DONE = (
    b'{"do":"done","status":%d,"reason":"","cpu":%f,"max_rss":%d,"left_behind":%s,'
    b'"totals":[%d,%d],"cut":[0,0],"buffers":[%d,%d,%d]}'
)
"""The report of a short run, to be filled in: encoding JSON writes pages, which a keeper pays for after each fork."""


class Run:
    """One evaluation that is watched, from the first word about it to its report."""

    def __init__(self, pid: int, pidfd: int, stdout: int, stderr: int, report: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.stdout, self.stderr = Capture(stdout), Capture(stderr)
        self.report = report
        self.limits: dict[str, Any] | None = None
        self.reason = ""
        self.peak = 0

    def kill(self, reason: str) -> None:
        """End the child and its process group; the first reason stands."""
        self.reason = self.reason or reason
        tree.kill_group(self.pid)


class Keeper:
    """The loop of one keeper process; its control socket is the descriptor FIRST_FOREIGN_FD."""

    def __init__(self, folder: str, rlimits: child.Rlimits) -> None:
        self._folder = folder
        self._rlimits = rlimits
        self._reader = frames.FrameReader()
        self._serial = 0

    def run(self) -> NoReturn:
        """Serve until the supervisor goes away.

        Each fork makes this process share its pages again, and each page it writes after that costs a fault. So a
        run about which nothing was said takes a path of plain calls; everything else is in `Run`.
        """
        system.prctl(system.PR_SET_CHILD_SUBREAPER, 1)
        os.chdir(self._folder)
        poller = select.poll()
        poller.register(_CONTROL, select.POLLIN)
        while True:
            pid, stdout, stderr, report = self._fork()
            pidfd = os.pidfd_open(pid)
            self._serial += 1
            poller.register(pidfd, select.POLLIN)
            ready = poller.poll()
            poller.unregister(pidfd)
            if len(ready) == 1 and ready[0][0] == pidfd:
                self._report_short(pid, stdout, stderr, report)
            else:
                run = Run(pid, pidfd, stdout, stderr, report)
                self._watch(run)
                self._conclude(run)
            os.close(stdout)
            os.close(stderr)
            os.close(report)
            os.close(pidfd)
            if not scratch.empty("."):
                os._exit(3)

    def _fork(self) -> tuple[int, int, int, int]:
        stdout, stdout_end = os.pipe()
        stderr, stderr_end = os.pipe()
        report, report_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            child.serve(stdout_end, stderr_end, report_end, self._rlimits)
        os.close(stdout_end)
        os.close(stderr_end)
        os.close(report_end)
        return pid, stdout, stderr, report

    def _report_short(self, pid: int, stdout: int, stderr: int, report: int) -> None:
        """End the tree of a run that was over before it was watched, and report it.

        With every writer gone, one read takes all that a pipe can hold. A child that ended before it had its request
        leaves no word at all: the request may lie in the socket, where the next child would take it for its own. So
        this keeper ends; whoever waits for a report hears that.
        """
        tree.kill_group(pid)
        _, status, used = os.wait4(pid, 0)
        usage = tree.Usage()
        tree.add(usage, used)
        left_behind = tree.end(usage)
        out, err = os.read(stdout, CHUNK), os.read(stderr, CHUNK)
        text = os.read(report, _REPORT_BYTES) if status else b""
        if status and not text:
            self._leave(3)
        sizes = (len(out), len(err))
        left = b"true" if left_behind else b"false"
        done = _DONE % (status, usage.cpu, usage.max_rss, left, *sizes, *sizes, len(text))
        self._write(frames.join(done, out, err, text))

    def _watch(self, run: Run) -> None:
        """Return when the child has ended."""
        poller = select.poll()
        poller.register(run.pidfd, select.POLLIN)
        poller.register(_CONTROL, select.POLLIN)
        due = 0.0
        while True:
            timeout = None if run.limits is None else max(0.0, due - time.monotonic()) * 1000
            ready = [fd for fd, _ in poller.poll(timeout)]
            if _CONTROL in ready:
                self._obey(run, poller)
            if run.limits is not None:
                self._collect(run, poller, ready)
                if time.monotonic() >= due:
                    self._check(run)
                    due = time.monotonic() + SAMPLE_SECONDS
            if run.pidfd in ready:
                return

    def _obey(self, run: Run, poller: select.poll) -> None:
        try:
            data = os.read(_CONTROL, 65536)
        except ConnectionResetError:  # the supervisor ended with words of ours unread
            data = b""
        if not data:
            self._leave()
        for header, _ in self._reader.feed(data):
            if header["run"] != self._serial:
                continue  # it crossed the report of the run that it was meant for
            if header["do"] == "kill":
                run.kill(header["reason"])
            elif header["do"] == "watch":
                run.limits = header
                poller.register(run.stdout.fd, select.POLLIN)
                poller.register(run.stderr.fd, select.POLLIN)

    def _collect(self, run: Run, poller: select.poll, ready: list[int]) -> None:
        assert run.limits is not None
        for name, stream in (("stdout", run.stdout), ("stderr", run.stderr)):
            if stream.fd not in ready:
                continue
            chunk = stream.read(run.limits["output"])
            if chunk and run.limits["stream"]:
                self._send({"do": "output", "name": name}, chunk)
            if not stream.open:
                poller.unregister(stream.fd)
            if stream.total > run.limits["output"] * OUTPUT_CEILING:
                run.kill("output")

    def _check(self, run: Run) -> None:
        assert run.limits is not None
        now = tree.sample(os.getpid())
        if now.tasks > run.limits["processes"]:
            run.kill("processes")
        elif now.cpu > run.limits["cpu"]:
            run.kill("cpu")
        elif now.rss > run.limits["memory"]:
            used = tree.proportional_rss(os.getpid())
            run.peak = max(run.peak, used)
            if used > run.limits["memory"]:
                run.kill("memory")

    def _conclude(self, run: Run) -> None:
        """End the tree and report; cleaning up comes after, for the report is what somebody waits for."""
        usage = tree.Usage()
        tree.kill_group(run.pid)
        _, status, used = os.wait4(run.pid, 0)
        tree.add(usage, used)
        left_behind = tree.end(usage)
        report = self._read_report(run.report)
        begun = not status or bool(report)
        if not begun and not run.reason:
            self._leave(3)  # as in _report_short
        keep = run.limits["output"] if run.limits else DEFAULT_KEEP
        self._drain(run, "stdout", run.stdout, keep)
        self._drain(run, "stderr", run.stderr, keep)
        stdout, stdout_cut = run.stdout.kept(keep)
        stderr, stderr_cut = run.stderr.kept(keep)
        self._send(
            {
                "do": "done",
                "status": status,
                "reason": run.reason,
                "cpu": usage.cpu,
                "max_rss": max(usage.max_rss, run.peak),
                "left_behind": left_behind,
                "totals": [run.stdout.total, run.stderr.total],
                "cut": [stdout_cut, stderr_cut],
                "last": not begun,
            },
            stdout,
            stderr,
            report,
        )
        if not begun:
            self._leave(3)

    def _drain(self, run: Run, name: str, stream: Capture, keep: int) -> None:
        """Take what is left in a pipe once every writer is gone."""
        live = run.limits is not None and run.limits["stream"]
        while stream.open:
            chunk = stream.read(keep)
            if chunk and live:
                self._send({"do": "output", "name": name}, chunk)
            if len(chunk) < CHUNK:
                return  # a pipe with less in it is empty now

    def _read_report(self, fd: int) -> bytes:
        os.set_blocking(fd, False)
        try:
            return os.read(fd, _REPORT_BYTES)
        except BlockingIOError:
            return b""

    def _send(self, header: dict[str, Any], *buffers: bytes) -> None:
        self._write(frames.pack(header, *buffers))

    def _write(self, frame: bytes) -> None:
        try:
            data = memoryview(frame)[os.write(_CONTROL, frame) :]
            while data:
                data = data[os.write(_CONTROL, data) :]
        except OSError:
            self._leave()

    def _leave(self, status: int = 0) -> NoReturn:
        """End, and leave nothing: the zygote, which sees to that for a keeper that was killed, may be gone."""
        tree.end(tree.Usage())
        try:
            if scratch.empty("."):
                os.rmdir(self._folder)
            if status == 0:  # dismissed, perhaps the last one; else others follow
                os.rmdir(os.path.dirname(self._folder))
        finally:
            os._exit(status)
