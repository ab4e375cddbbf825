"""The doctor on a real cluster where everything is broken on purpose. Skips without KUBECONFIG.

The queue server runs here, not in the cluster, so that a cell can be made and broken quickly; pods reach it on
this machine's first bridge or network address (`EXECUTOR_E2E_HOST` names another).
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cli.embedded import EmbeddedServer
from tests.support.command import Done, execute

BROKEN = Path(__file__).with_name("broken.yaml")
REFUSED = BROKEN.with_name("refused.yaml")
PATIENCE = 150
KUBECONFIG = os.environ.get("KUBECONFIG", "")

pytestmark = [
    pytest.mark.skipif(not KUBECONFIG, reason="set KUBECONFIG to a cluster with KEDA"),
    pytest.mark.timeout(300),
]

EXPECTED = [
    ("error", "lane warm.python", "does not exist"),
    ("error", "TriggerAuthentication executor-redis", "has no username"),
    ("error", "TriggerAuthentication no-secret", "no Secret nowhere"),
    ("error", "ScaledObject no-target", "no Deployment nothing"),
    ("error", "ScaledObject no-target", "no TriggerAuthentication not-there"),
    ("error", "ScaledObject warm-python", "not Ready"),
    ("error", "ScaledObject warm-python", "KEDAScalerFailed"),
    ("error", "ScaledJob job-cpu", "lagCount is missing"),
    ("error", "ScaledJob job-cpu", "strategy is eager"),
    ("error", "ScaledObject warm-python, ScaledJob job-cpu", "same stream"),
    ("error", "Pod worker-warm-python", "ImagePullBackOff"),
    ("error", "Pod dispatcher", "FailedScheduling"),
    ("error", "Job refused", "have no pod"),
    ("error", "Job refused", "failed quota: small"),
    ("error", "dispatcher", "no available replica"),
    ("warn", "ScaledObject warm-python", "paused by the annotation"),
    ("warn", "ScaledObject warm-python", "activationLagCount is 1"),
    ("warn", "ScaledObject warm-python", "its target is 3"),
    ("warn", "ScaledJob job-cpu", "not gradual"),
    ("warn", "ScaledJob job-cpu", "backoffLimit is 6"),
]


def _kubectl(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(["kubectl", *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _address() -> str:
    """Where pods find this machine: the address from which it would speak to a node."""
    named = os.environ.get("EXECUTOR_E2E_HOST", "")
    if named:
        return named
    node = _kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.connect((node, 9))
        return str(probe.getsockname()[0])


@pytest.fixture
def url() -> Iterator[str]:
    """A server that pods can reach."""
    host = _address()
    with closing(socket.create_server((host, 0))) as probe:
        port = probe.getsockname()[1]
    server = EmbeddedServer(extra=(f"port {port}", f"bind {host}"))
    password = urlsplit(server.url).password
    yield f"redis://:{password}@{host}:{port}/0"
    server.close()


@pytest.fixture
def namespace(url: str) -> Iterator[str]:
    """A namespace where everything is wrong."""
    name = f"doctor-{secrets.token_hex(3)}"
    address = f"{urlsplit(url).hostname}:{urlsplit(url).port}"
    _kubectl("create", "namespace", name)
    try:
        text = BROKEN.read_text().replace("ADDRESS", address).replace("PASSWORD", "wrong")
        _kubectl("apply", "--namespace", name, "-f", "-", stdin=text)
        enforced = "--for=jsonpath={.status.hard.limits\\.memory}=64Mi"  # before that, pods are let through
        _kubectl("wait", "resourcequota/small", "--namespace", name, enforced, "--timeout=30s")
        _kubectl("apply", "--namespace", name, "-f", str(REFUSED))
        yield name
    finally:
        _kubectl("delete", "namespace", name, "--wait=false")


async def _doctor(url: str, namespace: str) -> Done:
    environ = {"PATH": os.environ["PATH"], "REDIS_URL": url, "KUBECONFIG": KUBECONFIG}
    return await execute(environ, "doctor", "--namespace", namespace, "--json")


def _missing(findings: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    def there(severity: str, about: str, seen: str) -> bool:
        return any(
            one["severity"] == severity and one["about"].startswith(about) and seen in one["seen"] for one in findings
        )

    return [row for row in EXPECTED if not there(*row)]


async def test_everything_that_was_broken_is_said(url: str, namespace: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        done = await _doctor(url, namespace)
        missing = _missing(done.json["findings"])
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(5)  # noqa: ASYNC251 nothing else runs; pods count as late after a minute

    assert missing == [], done.stdout
    assert done.code == 1
    assert done.stderr == ""


async def test_a_namespace_that_is_not_there_is_one_error(url: str) -> None:
    done = await _doctor(url, "doctor-nowhere")

    assert done.code == 1
    assert [one["seen"] for one in done.json["findings"] if one["severity"] == "error"] == [
        "there is no namespace doctor-nowhere"
    ]


async def test_an_api_server_that_is_away_is_exit_3(url: str, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    cluster = "{name: c, cluster: {server: 'https://127.0.0.1:1', insecure-skip-tls-verify: true}}"
    context = "{name: c, context: {cluster: c, user: u}}"
    config.write_text(
        f"apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{cluster}]\ncontexts: [{context}]\n"
        "users: [{name: u, user: {token: t}}]\n"
    )
    environ = {"PATH": os.environ["PATH"], "REDIS_URL": url, "KUBECONFIG": str(config)}

    done = await execute(environ, "doctor", "--json")

    assert done.code == 3
    assert "cannot be asked" in done.stdout
