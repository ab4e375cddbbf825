"""Awkward and hostile programs: each gets the outcome it deserves, and the worker's next evaluation is unharmed."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cli.embedded import EmbeddedServer
from executor import Outcome
from executor.result import EvaluationResult
from tests.support.stack import Stack, process_exists
from tests.support.wait import wait_until
from worker.kernel.tree import descendants

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(server: EmbeddedServer) -> AsyncIterator[Stack]:
    """One worker with one slot for every program here."""
    before = set(descendants(os.getpid()))
    running = Stack(server.url, f"t{secrets.token_hex(4)}", EXECUTOR_SLOTS="1")
    await running.dispatcher()
    await running.worker()
    yield running
    await running.close()
    assert set(descendants(os.getpid())) <= before


async def outcome_of(shared: Stack, code: str | None = None, **fields: Any) -> EvaluationResult:
    """Run a program, then a plain one after it."""
    result = await shared.client.run(code, wait_timeout=30, **fields)
    after = await shared.client.run("print('next')", wait_timeout=30)
    assert (after.outcome, after.stdout, after.stderr) == (Outcome.SUCCEEDED, "next\n", "")
    return result


async def test_a_plain_program_says_what_it_used(shared: Stack) -> None:
    result = await outcome_of(shared, "print(sum(range(100_000)))")

    assert (result.outcome, result.exit_code, result.stdout) == (Outcome.SUCCEEDED, 0, "4999950000\n")
    assert result.cpu_ms > 0
    assert result.duration_ms > 0
    assert result.max_rss > MIB
    assert result.attempt == 1


async def test_a_hundred_megabytes_of_output_end_it_and_a_part_is_kept(shared: Stack) -> None:
    result = await outcome_of(shared, "for _ in range(100): print('x' * 1_000_000)")

    assert result.outcome is Outcome.OUTPUT_LIMIT
    assert result.truncated == ("stdout",)
    assert result.stdout.startswith("xxx")
    assert "bytes left out" in result.stdout
    assert len(result.stdout) < 2 * MIB < result.stdout_bytes < 100_000_000


async def test_sleeping_for_ever_times_out_with_what_it_printed(shared: Stack) -> None:
    result = await outcome_of(shared, "print('before')\nimport time\ntime.sleep(1e6)", timeout=0.3)

    assert (result.outcome, result.stdout) == (Outcome.TIMED_OUT, "before\n")
    assert "timeout" in result.error


async def test_ignoring_sigterm_does_not_help_against_the_timeout(shared: Stack) -> None:
    code = "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(1)"

    assert (await outcome_of(shared, code, timeout=0.3)).outcome is Outcome.TIMED_OUT


async def test_a_loop_ends_at_its_cpu_limit(shared: Stack) -> None:
    result = await outcome_of(shared, "while True: pass", timeout=20, limits={"cpu": 0.3})

    assert result.outcome is Outcome.TIMED_OUT
    assert "CPU" in result.error
    assert result.cpu_ms >= 300


async def test_a_fork_bomb_ends_at_the_process_limit(shared: Stack) -> None:
    result = await outcome_of(shared, "import os\nwhile True: os.fork()", limits={"processes": 16})

    assert result.outcome is Outcome.PROCESS_LIMIT


async def test_too_many_threads_end_at_the_process_limit(shared: Stack) -> None:
    code = "import threading, time\nfor _ in range(30): threading.Thread(target=time.sleep, args=(60,)).start()"

    assert (await outcome_of(shared, code, limits={"processes": 16})).outcome is Outcome.PROCESS_LIMIT


@pytest.mark.parametrize(
    "code",
    ["kept = []\nwhile True: kept.append(bytearray(b'x' * 65536))", "bytearray(1 << 40)"],
    ids=["many small", "one giant"],
)
async def test_allocating_too_much_is_out_of_memory(shared: Stack, code: str) -> None:
    result = await outcome_of(shared, code, limits={"memory": 64 * MIB})

    assert result.outcome is Outcome.OUT_OF_MEMORY
    assert "memory" in result.error


async def test_a_file_above_the_scratch_limit_is_a_disk_limit_or_an_error(shared: Stack) -> None:
    """Python ignores SIGXFSZ, so code sees an OSError; a command without such care is killed by it."""
    result = await outcome_of(shared, "f = open('big', 'wb')\nf.truncate(1 << 40)")

    assert (result.outcome, result.error) == (Outcome.FAILED, "OSError: [Errno 27] File too large")


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import sys\nsys.exit()", 0),
        ("import sys\nsys.exit(0)", 0),
        ("import os\nos._exit(0)", 0),
        ("import sys\nsys.exit(3)", 3),
        ("import os\nos._exit(3)", 3),
        ("raise SystemExit(3)", 3),
        ("import sys\nsys.exit('bye')", 1),
    ],
)
async def test_leaving_early_gives_its_own_exit_status(shared: Stack, code: str, exit_code: int) -> None:
    result = await outcome_of(shared, code + "\nprint('never')")

    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.outcome is (Outcome.FAILED if exit_code else Outcome.SUCCEEDED)


async def test_an_exception_is_reported_with_its_source_line(shared: Stack) -> None:
    result = await outcome_of(shared, "def divide(a):\n    return a / 0\ndivide(1)")

    assert (result.outcome, result.exit_code) == (Outcome.FAILED, 1)
    assert result.error == "ZeroDivisionError: division by zero"
    assert 'File "<evaluation>", line 2, in divide\n    return a / 0' in result.stderr
    assert result.stderr.endswith(result.error + "\n")
    assert "kernel" not in result.stderr


async def test_a_syntax_error_is_reported_in_one_line(shared: Stack) -> None:
    result = await outcome_of(shared, "x = 1\nif x\n")

    assert (result.outcome, result.exit_code, result.error) == (Outcome.FAILED, 1, "SyntaxError: expected ':'")
    assert 'File "<evaluation>", line 2' in result.stderr


async def test_an_exception_whose_text_raises_is_still_a_failure(shared: Stack) -> None:
    code = "class Bad(Exception):\n    def __str__(self): raise ValueError\nraise Bad"

    assert (await outcome_of(shared, code)).outcome is Outcome.FAILED


async def test_endless_recursion_is_a_failure(shared: Stack) -> None:
    result = await outcome_of(shared, "def f(): f()\nf()")

    assert (result.outcome, result.error.partition(":")[0]) == (Outcome.FAILED, "RecursionError")


async def test_an_excepthook_is_called(shared: Stack) -> None:
    code = "import sys\nsys.excepthook = lambda kind, value, trace: print('hook', kind.__name__)\n1 / 0"
    result = await outcome_of(shared, code)

    assert (result.outcome, result.stdout, result.stderr) == (Outcome.FAILED, "hook ZeroDivisionError\n", "")


@pytest.mark.parametrize("code", ["import sys\nsys.stdout.close()", "import os\nos.close(1)", "import os\nos.close(2)"])
async def test_closing_output_is_no_failure(shared: Stack, code: str) -> None:
    assert (await outcome_of(shared, code)).outcome is Outcome.SUCCEEDED


async def test_closing_every_descriptor_is_no_failure(shared: Stack) -> None:
    assert (await outcome_of(shared, "import os\nos.closerange(0, 4096)")).outcome is Outcome.SUCCEEDED


async def test_a_daemon_is_ended_with_its_evaluation(shared: Stack) -> None:
    code = """
import os, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    pid = os.fork()
    if pid:
        os.write(writer, str(pid).encode())
        os._exit(0)
    time.sleep(1000)
os.wait()
print(os.read(reader, 20).decode())
"""
    result = await outcome_of(shared, code)

    assert result.outcome is Outcome.SUCCEEDED
    assert not process_exists(int(result.stdout))


@pytest.mark.parametrize(("name", "number"), [("SIGKILL", 9), ("SIGSEGV", 11), ("SIGTERM", 15)])
async def test_a_signal_is_told_by_name_and_number(shared: Stack, name: str, number: int) -> None:
    result = await outcome_of(shared, f"import os, signal\nprint('x')\nos.kill(os.getpid(), signal.{name})")

    assert (result.outcome, result.exit_code, result.stdout) == (Outcome.KILLED, -number, "x\n")
    assert name in result.error


async def test_killing_its_keeper_ends_after_the_last_attempt(shared: Stack) -> None:
    code = "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(60)"
    result = await outcome_of(shared, code, max_attempts=2)

    assert (result.outcome, result.attempt) == (Outcome.LOST, 2)
    (letter,) = await shared.client.dead_letters(id=result.id)
    assert (letter.reason, letter.lane, letter.error) == ("attempts", "warm.python", result.error)
    assert "by signal 9 (Killed)" in result.error
    assert [(past.attempt, past.owner, past.how) for past in letter.history] == [
        (1, result.worker, result.error),
        (2, result.worker, result.error),
    ]


async def test_what_a_killer_of_keepers_last_wrote_is_kept(shared: Stack) -> None:
    """As far as it was streamed, and of that the end."""
    code = "import os, time\nprint('x' * 5000 + 'the end', flush=True)\ntime.sleep(0.5)\nos.kill(os.getppid(), 9)"
    result = await outcome_of(shared, code, max_attempts=1, stream=True)

    assert result.outcome is Outcome.LOST
    (letter,) = await shared.client.dead_letters(id=result.id)
    (past,) = letter.history
    assert past.output.rstrip() == ("x" * 5000 + "the end\n")[-2048:].rstrip()


async def test_bytes_that_are_not_utf8_are_replaced(shared: Stack) -> None:
    result = await outcome_of(shared, r"import os; os.write(1, b'a\xff\xc3b'); os.write(2, b'\x80')")

    assert (result.stdout, result.stderr) == ("a\ufffd\ufffdb", "\ufffd")
    assert result.stdout_bytes == 4


async def test_every_character_survives(shared: Stack) -> None:
    text = "é 漢字 🐍 \x01 \t a\rb \u2028"
    result = await outcome_of(shared, f"import sys; sys.stdout.write({text!r})")

    assert result.stdout == text


@pytest.mark.parametrize("limit", [4096, 4097, 200_000])
async def test_output_of_exactly_the_limit_is_whole(shared: Stack, limit: int) -> None:
    result = await outcome_of(shared, f"import sys; sys.stdout.write('x' * {limit})", limits={"output": limit})

    assert (result.stdout, result.truncated) == ("x" * limit, ())


@pytest.mark.parametrize("limit", [4096, 4097, 200_000])
async def test_one_byte_more_leaves_head_and_tail(shared: Stack, limit: int) -> None:
    code = f"import sys; sys.stderr.write('a' + 'x' * {limit - 1} + 'z')"
    result = await outcome_of(shared, code, limits={"output": limit})

    head, _, tail = result.stderr.partition("\n[... 1 bytes left out ...]\n")
    assert (head[0], tail[-1], len(head) + len(tail)) == ("a", "z", limit)
    assert (result.outcome, result.truncated, result.stderr_bytes) == (Outcome.SUCCEEDED, ("stderr",), limit + 1)


async def test_a_command_runs_without_a_shell(shared: Stack) -> None:
    result = await outcome_of(shared, command=["echo", "$HOME", "a b"], args=["*"])

    assert (result.outcome, result.stdout) == (Outcome.SUCCEEDED, "$HOME a b *\n")


async def test_a_command_gets_stdin_and_its_exit_status_counts(shared: Stack) -> None:
    result = await outcome_of(shared, command=["sh", "-c", "cat; echo $X; exit 5"], stdin="in ", env={"X": "1"})

    assert (result.outcome, result.exit_code, result.stdout) == (Outcome.FAILED, 5, "in 1\n")


async def test_a_missing_command_is_exit_code_127(shared: Stack) -> None:
    result = await outcome_of(shared, command=["no-such-program"])

    assert (result.outcome, result.exit_code) == (Outcome.FAILED, 127)
    assert "no-such-program" in result.stderr


async def test_args_and_env_arrive(shared: Stack) -> None:
    code = "import os, sys\nprint(sys.argv, os.environ['NAME'], 'REDIS_URL' in os.environ)"
    result = await outcome_of(shared, code, args=["-x", "é", ""], env={"NAME": "v=1 é"})

    assert result.stdout == "['<evaluation>', '-x', 'é', ''] v=1 é False\n"


@pytest.mark.parametrize(
    "stdin", [b"\x00\xff\r\n", "text é\r\n", b"0123456789abcdef" * 131072], ids=["raw", "text", "2 MB"]
)
async def test_stdin_arrives_byte_for_byte(shared: Stack, stdin: str | bytes) -> None:
    code = "import hashlib, sys\ndata = sys.stdin.buffer.read()\nprint(len(data), hashlib.sha256(data).hexdigest())"
    result = await outcome_of(shared, code, stdin=stdin)

    import hashlib

    data = stdin.encode() if isinstance(stdin, str) else stdin
    assert result.stdout == f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"


async def test_stdin_is_empty_when_none_is_given(shared: Stack) -> None:
    assert (await outcome_of(shared, "import sys; print(repr(sys.stdin.read()))")).stdout == "''\n"


async def test_the_scratch_directory_is_empty_every_time(shared: Stack, tmp_path: Path) -> None:
    """Read-only folders go too; what a link points to stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    code = f"""
import os
print(os.listdir('.'), os.getcwd() == os.environ['HOME'] == os.environ['TMPDIR'])
os.makedirs('deep/er')
open('deep/er/file', 'w').close()
os.symlink({str(outside)!r}, 'folder-link')
os.symlink({str(outside / "file")!r}, 'deep/link')
os.mkfifo('fifo')
os.chmod('deep/er', 0o500)
os.chmod('deep', 0)
os.chmod('.', 0o500)
"""
    for _ in range(4):
        assert (await outcome_of(shared, code)).stdout == "[] True\n"
    assert (outside / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["worker", "worker.kernel", "executor", "redis"])
async def test_evaluated_code_cannot_import_the_platform(shared: Stack, name: str) -> None:
    result = await outcome_of(shared, f"import {name}")

    assert result.error == f"ModuleNotFoundError: No module named {name.partition('.')[0]!r}"


async def test_code_with_carriage_returns_and_a_byte_order_mark_runs(shared: Stack) -> None:
    result = await outcome_of(shared, "\ufeffprint('a')\r\nif True:\r\n    print('b')\r\n")

    assert (result.stdout, result.error) == ("a\nb\n", "")


async def test_exit_handlers_and_threads_finish(shared: Stack) -> None:
    code = """
import atexit, threading, time
atexit.register(print, 'handler')
def work():
    time.sleep(0.05)
    print('thread')
threading.Thread(target=work).start()
print('main')
"""
    assert (await outcome_of(shared, code)).stdout == "main\nthread\nhandler\n"


async def test_a_program_finds_itself_as_main(shared: Stack) -> None:
    code = "import sys\nx = 1\nprint(__name__, sys.modules['__main__'].x)\nclass A: pass\nprint(A.__module__)"

    assert (await outcome_of(shared, code)).stdout == "__main__ 1\n__main__\n"


async def test_nothing_of_one_program_is_seen_by_the_next(shared: Stack) -> None:
    code = "import builtins, os, sys\nprint(hasattr(builtins, 'left'), os.environ.get('LEFT'), 'left' in sys.modules)\n"
    code += "builtins.left = 1\nos.environ['LEFT'] = '1'\nsys.modules['left'] = sys"
    for _ in range(3):
        assert (await outcome_of(shared, code)).stdout == "False None False\n"


async def test_unicode_metadata_comes_back(shared: Stack) -> None:
    metadata = {"who": "é", "list": [1, None, {"a": True}]}

    assert (await outcome_of(shared, "pass", metadata=metadata)).metadata == metadata


async def test_a_killed_keeper_leaves_no_process(shared: Stack, tmp_path: Path) -> None:
    """The evaluation that killed its keeper is itself ended."""
    pids = tmp_path / "pids"
    code = f"import os, time\nopen({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    code += "os.setsid() if os.fork() == 0 else os.kill(os.getppid(), 9)\ntime.sleep(60)"
    await outcome_of(shared, code, max_attempts=1)

    (pid,) = map(int, pids.read_text().split())
    await wait_until(lambda: not process_exists(pid), "the evaluation is gone")
