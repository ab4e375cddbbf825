"""Writes batch.jsonl: small programs of every kind, each with the outcome it should have."""

from __future__ import annotations

import json
from pathlib import Path

PROGRAMS = {
    "hello": ("print('hello')", "succeeded"),
    "stdin": ("import sys\nprint(sys.stdin.read().upper())", "succeeded"),
    "raises": ("1 / 0", "failed"),
    "exits": ("import sys\nsys.exit(3)", "failed"),
    "assertion": ("assert sorted([3, 1, 2]) == [3, 2, 1]", "failed"),
    "forever": ("while True:\n    pass", "timed_out"),
    "memory": ("data = []\nwhile True:\n    data.append(bytearray(10_000_000))", "out_of_memory"),
    "killed": ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", "killed"),
    "noisy": ("while True:\n    print('x' * 10_000)", "output_limit"),
}


def main() -> None:
    """Write the file beside this one."""
    rows = []
    for name, (code, expect) in PROGRAMS.items():
        extra = {"timeout": 1} if expect == "timed_out" else {"stdin": "loud"} if name == "stdin" else {}
        rows.append({"id": f"example-{name}", "code": code, **extra, "expect": expect})
    for number in range(91):
        code = f"a, b = 0, 1\nfor _ in range({number}):\n    a, b = b, a + b\nprint(a)"
        rows.append({"id": f"example-fib-{number}", "code": code, "expect": "succeeded"})
    Path(__file__).with_name("batch.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
