"""What hostile code finds in the evaluation container of a Job: nothing that is worth having."""

from __future__ import annotations

import json

import pytest

from e2e.support.installation import Installation
from executor import Outcome
from executor.sync import Client

pytestmark = pytest.mark.timeout(300)

SEARCH = """
import json, os, socket, sys
def walk(top):
    for folder, _, names in os.walk(top):
        for name in names:
            yield os.path.join(folder, name)
def text(path):
    try:
        with open(path, errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
def connect(address, family=socket.AF_INET):
    try:
        socket.create_connection(address, 2).close()
        return "open"
    except OSError as error:
        return type(error).__name__
def resolve(name):
    try:
        return socket.getaddrinfo(name, 443)[0][4][0]
    except OSError as error:
        return type(error).__name__
environments = [text(f"/proc/{pid}/environ") for pid in os.listdir("/proc") if pid.isdigit()]
words = ("REDIS", "laptop-", "KUBERNETES_", "redis://")
print(json.dumps({
    "environment": [word for word in words if any(word in one for one in environments)],
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
    "files": [path for top in ("/run", "/tmp", "/etc", "/var") for path in walk(top) if "laptop-" in text(path)],
    "marks": [path for path in walk("/run/executor")],
    "redis": connect(("%(redis)s", 6379)), "api": connect(("%(api)s", 443)),
    "metadata": connect(("169.254.169.254", 80)), "agent": connect(("127.0.0.1", 8083)),
    "dns": resolve("executor-redis"),
    "writable": os.access("/", os.W_OK), "uid": os.getuid(),
}))
"""


def test_the_evaluation_container_holds_nothing(installation: Installation) -> None:
    redis = installation.kubectl.get("service", "executor-redis")["spec"]["clusterIP"]
    code = SEARCH % {"redis": redis, "api": "10.96.0.1"}
    with installation.redis_url("caller") as url, Client(url) as client:
        result = client.run(code, expected_duration=60, wait_timeout=120)
    assert result.outcome is Outcome.SUCCEEDED, result.stderr
    found = json.loads(result.stdout)

    assert found["environment"] == []
    assert not found["token"]
    assert found["files"] == []
    assert set(found["marks"]) == {"/run/executor/agent.started", "/run/executor/agent.ready"}  # and no socket
    for place in ("redis", "api", "metadata", "agent"):
        assert found[place] == "PermissionError", place
    assert found["dns"] in ("gaierror", "PermissionError")
    assert not found["writable"]
    assert found["uid"] == 65532
