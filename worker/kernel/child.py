"""The child that runs one evaluation: prepared ahead, then request, limits, code, exit.

Everything before the code is ours; everything from the code on is hostile. The child reports an exception's text on a
pipe of its own; what it says there is text for the caller and decides nothing but the name of a memory error.

Each page that a fresh fork writes, and each Python function is some, costs microseconds of copying. So the usual path
here is short on purpose: builtins and `os` calls on plain descriptors; what every evaluation needs is set up once
in the zygote (`set_stage`); JSON is read only when a request says more than the defaults.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import signal
import struct
import sys
from typing import Any, NoReturn

SOURCE = "<evaluation>"
"""File name of submitted code in tracebacks; linecache holds its text."""
REPORT_FD, REQUESTS_FD, FIRST_FOREIGN_FD = 3, 4, 5
"""Where a child has its report pipe and the supervisor's requests; everything above is closed."""

BEGUN = b"\n"
"""First byte of a report: the request was read to its end. JSON may have it in front."""

Rlimits = list[tuple[int, int]]
"""Pairs of a RLIMIT_ number and its value."""

_ERROR_TEXT = 2000
_sizes = struct.Struct("<II").unpack
_main: dict[str, Any] = {}


def set_stage() -> None:
    """Make the zygote look like an interpreter about to run a script; every fork inherits it."""
    global _main  # noqa: PLW0603 one namespace per process, made before it is forked
    module = sys.modules["__main__"] = type(sys)("__main__")
    _main = module.__dict__
    sys.argv = [SOURCE]
    sys.path.insert(0, "")
    # A killed process flushes nothing: lines are written as they end, so that partial output is there.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def serve(stdout: int, stderr: int, report: int, rlimits: Rlimits) -> NoReturn:
    """Wait for one request on REQUESTS_FD, run it and exit with its status.

    Args:
        stdout: descriptor that becomes 1.
        stderr: descriptor that becomes 2.
        report: descriptor that becomes REPORT_FD.
        rlimits: for a request that names none.
    """
    status = 1
    try:
        os.setsid()
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.dup2(report, REPORT_FD, False)
        os.closerange(FIRST_FOREIGN_FD, 1 << 20)
        _rehearse()
        head = _exactly(8)
        text_size, buffers_size = _sizes(head)
        body = _exactly(text_size + buffers_size)
        os.close(REQUESTS_FD)
        os.write(REPORT_FD, BEGUN)
        status = _run(body, text_size, rlimits)
    finally:
        # Nothing of the evaluation may unwind into the keeper's copied stack.
        os._exit(status)


def _rehearse() -> None:
    """Fault in, while nobody waits, the pages that every run writes."""
    exec(compile("0", SOURCE, "exec", dont_inherit=True), {})
    resource.setrlimit(resource.RLIMIT_AS, resource.getrlimit(resource.RLIMIT_AS))
    gc.enable()


def _exactly(size: int) -> bytes:
    data = os.read(REQUESTS_FD, size)
    while len(data) < size:
        more = os.read(REQUESTS_FD, min(size - len(data), 1 << 20))
        if not more:
            os._exit(0)
        data += more
    return data


def _run(body: bytes, text_size: int, rlimits: Rlimits) -> int:
    if not text_size:
        _limit(rlimits)
        return _run_code(body)
    header = json.loads(body[:text_size])
    code_size, stdin_size = header["buffers"]
    if stdin_size:
        _give_stdin(body[text_size + code_size :])
    os.environ.update(header["env"])
    sys.argv += header["args"]
    _limit(header["rlimits"])
    return _run_command(header) if "command" in header else _run_code(body[text_size : text_size + code_size])


def _limit(rlimits: Rlimits) -> None:
    """setrlimit(2): soft and hard alike, for code must not raise them again."""
    for limit, value in rlimits:
        resource.setrlimit(limit, (value, value))


def _give_stdin(data: bytes) -> None:
    fd = os.memfd_create("stdin")
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 0)
    os.close(fd)


def _run_command(header: dict[str, Any]) -> int:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    program = header["command"][0]
    try:
        os.execvp(program, [*header["command"], *header["args"]])
    except OSError as error:
        os.write(2, f"{program}: {error.strerror}\n".encode())
        return 127 if isinstance(error, FileNotFoundError) else 126


def _run_code(code: bytes) -> int:
    status = 0
    try:
        exec(compile(code, SOURCE, "exec", dont_inherit=True), _main)
    except SystemExit as error:
        status = _exit_status(error.code)
    except BaseException as error:
        status = 1
        _report(error)
        _show(error, code)
    return _finish(status)


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    try:
        print(code, file=sys.stderr)
    except BaseException:
        return 1
    return 1


def _report(error: BaseException) -> None:
    import traceback  # noqa: PLC0415 the template has it loaded; the supervisor does not need it

    try:
        if isinstance(error, MemoryError):
            os.write(REPORT_FD, b'{"error":"MemoryError","memory":true}')
            return
        lines = traceback.format_exception_only(type(error), error)
        # A SyntaxError is preceded by its place in the source, indented.
        text = next((line for line in lines if not line.startswith(" ")), lines[-1]).strip()[:_ERROR_TEXT]
        os.write(REPORT_FD, json.dumps({"error": text}).encode())
    except BaseException:
        return


def _show(error: BaseException, code: bytes) -> None:
    import linecache  # noqa: PLC0415 as above
    import traceback  # noqa: PLC0415

    try:
        text = code.decode("utf-8-sig", "replace")
        linecache.cache[SOURCE] = (len(text), None, text.splitlines(keepends=True), SOURCE)
        of_code = error.__traceback__.tb_next if error.__traceback__ else None
        if sys.excepthook is sys.__excepthook__:
            traceback.print_exception(type(error), error, of_code)
        else:
            sys.excepthook(type(error), error, of_code)
    except BaseException:
        return


def _finish(status: int) -> int:
    """What the interpreter does at its end: wait for threads, run exit handlers, flush."""
    threading = sys.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()
        if atexit._ncallbacks():
            atexit._run_exitfuncs()
    except BaseException as error:
        _report(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            continue
    return status
