"""kubectl, as a person would use it; every answer is the real API server's."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Kubectl:
    """Commands in one namespace.

    Attributes:
        namespace: where they act.
    """

    def __init__(self, kubeconfig: str, namespace: str = "default") -> None:
        self.namespace = namespace
        self._head = ["kubectl", "--kubeconfig", kubeconfig, "--namespace", namespace]

    def __call__(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run one command; returns what it prints.

        Raises:
            AssertionError: it failed, with what it said.
        """
        done = subprocess.run([*self._head, *words], input=stdin, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr.strip()}"
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that goes on, such as a watch; the caller ends it."""
        return subprocess.Popen(
            [*self._head, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )

    def list(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """Every object of a kind."""
        found: list[dict[str, Any]] = json.loads(self("get", kind, "-o", "json", *words))["items"]
        return found

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = json.loads(self("get", kind, name, "-o", "json"))
        return found

    @contextmanager
    def forward(self, target: str, port: int) -> Iterator[int]:
        """A port-forward to `svc/name` or `pod/name`; gives the local port."""
        process = self.start("port-forward", target, f":{port}")
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            match = re.search(r":(\d+) ->", first)
            assert match, f"port-forward {target}: {first}"
            yield int(match[1])
        finally:
            process.terminate()
            process.communicate(timeout=10)
