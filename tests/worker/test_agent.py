"""The two containers of a Job pod as two processes: the agent with the credentials, the evaluation with nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from executor import Outcome
from executor.result import EvaluationResult
from tests.support.stack import Stack
from tests.support.wait import wait_until
from worker.kernel.tree import descendants


class Pod:
    """Starts and restarts the containers of one pod, as the kubelet would."""

    def __init__(self, stack: Stack, folder: Path, name: str) -> None:
        self._stack = stack
        self.folder = folder / name
        self.folder.mkdir()
        self.socket = self.folder / "agent.sock"
        self.name = name
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    async def agent(self, **variables: Any) -> subprocess.Popen[bytes]:
        """Start the agent."""
        own: dict[str, Any] = {"EXECUTOR_ID": self.name, "EXECUTOR_HEALTH_PORT": str(self.port)}
        return await self._stack.worker(MODE="agent", EXECUTOR_AGENT_SOCKET=str(self.socket), **own, **variables)

    def container(self) -> subprocess.Popen[bytes]:
        """Start the evaluation container's program, with a secret in its environment that it should lose."""
        command = [sys.executable, "-m", "worker.kernel", str(self.socket), str(self.folder)]
        environ = {"REDIS_URL": "canary"}
        process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, start_new_session=True)
        self._stack.workers.append(process)
        return process

    async def status(self) -> int:
        """What /readyz answers: an HTTP status, 0 without an answer."""
        return await asyncio.to_thread(_status, f"http://127.0.0.1:{self.port}/readyz")

    def marked(self) -> bool:
        """Whether the hook in keda/base/job/job.yaml lets the evaluation container start."""
        return (self.folder / "agent.ready").exists()

    async def ready(self) -> bool:
        """Whether the agent says so to all who ask."""
        return self.marked() and await self.status() == 200

    async def unready(self) -> bool:
        """Whether the agent answers, and says no."""
        return not self.marked() and await self.status() == 503


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code
    except urllib.error.URLError:
        return 0


@pytest_asyncio.fixture
async def jobs(stack: Stack) -> AsyncIterator[Stack]:
    await stack.dispatcher()
    yield stack


@pytest.fixture
def pod(jobs: Stack, tmp_path: Path) -> Pod:
    return Pod(jobs, tmp_path, "pod-0")


async def submit(stack: Stack, code: str, **fields: Any) -> str:
    evaluation = await stack.client.submit(code, expected_duration=60, **fields)
    await wait_until(lambda: admitted(stack, evaluation.id), "it is on the lane")
    return evaluation.id


async def admitted(stack: Stack, evaluation_id: str) -> bool:
    return bool(await stack.redis.call("EXISTS", stack.cell.keys.record("default", evaluation_id)))


async def result_of(stack: Stack, evaluation_id: str) -> EvaluationResult:
    fields = await stack.result(evaluation_id)
    return EvaluationResult.from_fields({name.encode(): value.encode() for name, value in fields.items()})


async def ended(process: subprocess.Popen[bytes]) -> int:
    await wait_until(lambda: process.poll() is not None, f"{process.args!r} has ended")
    return process.returncode


async def consumers(stack: Stack) -> list[Any]:
    rows: list[Any] = await stack.redis.call("XINFO", "CONSUMERS", stack.cell.keys.lane("job.cpu"), "workers")
    return rows


async def test_an_agent_is_ready_when_it_has_claimed_and_outlives_the_container(jobs: Stack, pod: Pod) -> None:
    agent = await pod.agent(EXECUTOR_CLAIM_TIMEOUT="30")
    await wait_until(pod.unready, "the agent answers, and has not claimed")
    evaluation = await submit(jobs, "print(6 * 7)")
    await wait_until(pod.ready, "the agent is ready")
    container = pod.container()

    result = await result_of(jobs, evaluation)
    assert (result.outcome, result.stdout, result.worker) == (Outcome.SUCCEEDED, "42\n", "pod-0")
    assert await ended(container) == 0
    assert agent.poll() is None  # the kubelet would start it again
    assert not pod.socket.exists()
    assert [path for path in pod.folder.iterdir() if path.is_dir()] == []

    agent.send_signal(signal.SIGTERM)
    assert await ended(agent) == 0
    assert await jobs.gone("pod-0")
    assert await consumers(jobs) == []


async def test_a_pod_with_nothing_to_do_ends_well(jobs: Stack, pod: Pod) -> None:
    await pod.agent(EXECUTOR_CLAIM_TIMEOUT="0.05")
    await wait_until(pod.ready, "the agent is ready")

    assert await ended(pod.container()) == 0


async def test_the_container_has_no_network_no_secret_and_no_way_back_to_the_agent(jobs: Stack, pod: Pod) -> None:
    code = """
import json, os, socket, subprocess, sys
def attempt(*family):
    try:
        socket.socket(*family).close()
        return "open"
    except OSError as error:
        return type(error).__name__
inner = "import socket\\ntry: socket.socket()\\nexcept OSError as error: print(type(error).__name__)"
print(json.dumps({
    "inet": attempt(socket.AF_INET), "inet6": attempt(socket.AF_INET6), "netlink": attempt(socket.AF_NETLINK),
    "vsock": attempt(socket.AF_VSOCK), "packet": attempt(socket.AF_PACKET, socket.SOCK_RAW),
    "unix": attempt(socket.AF_UNIX),
    "program": subprocess.run([sys.executable, "-c", inner], capture_output=True, text=True).stdout.strip(),
    "secrets": [name for pid in os.listdir("/proc") if pid in ("self", str(os.getppid()))
                for name in open(f"/proc/{pid}/environ").read().split("\\0") if "canary" in name],
    "descriptors": len(os.listdir("/proc/self/fd")),
}))
"""
    evaluation = await submit(jobs, code)
    await pod.agent()
    container = pod.container()

    result = await result_of(jobs, evaluation)
    assert result.outcome is Outcome.SUCCEEDED, result.stderr
    seen = json.loads(result.stdout)
    denied = {name for name, word in seen.items() if word == "PermissionError"}
    assert denied == {"inet", "inet6", "netlink", "vsock", "packet", "program"}
    assert seen["unix"] == "open"
    assert seen["secrets"] == []
    assert await ended(container) == 0


async def test_output_streams_and_a_cancel_reaches_through_both_containers(jobs: Stack, pod: Pod) -> None:
    evaluation = await submit(jobs, "import time\nprint('on', flush=True)\ntime.sleep(60)", stream=True)
    await pod.agent()
    container = pod.container()
    output = jobs.cell.keys.output("default", evaluation)

    async def shown() -> bool:
        return any(row.get("stdout") == "on\n" for row in await jobs.stream(output))

    await wait_until(shown, "the first line is seen while it runs")
    await jobs.client.cancel(evaluation)

    assert (await result_of(jobs, evaluation)).outcome is Outcome.CANCELLED
    assert await ended(container) == 0


async def test_a_container_that_dies_gives_the_evaluation_back_at_once(jobs: Stack, pod: Pod, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    evaluation = await submit(
        jobs, f"import os, time\nif not os.path.exists('{mark}'): open('{mark}', 'x'); time.sleep(60)"
    )
    agent = await pod.agent()
    container = pod.container()
    await wait_until(mark.exists, "it runs")
    for pid in (container.pid, *descendants(container.pid)):
        os.kill(pid, signal.SIGKILL)  # what the end of a container's first process does to the rest
    await wait_until(lambda: waits(jobs), "it is lag again, long before its lease ends")
    assert agent.poll() is None

    second = Pod(jobs, tmp_path, "pod-1")
    await second.agent()
    second.container()
    result = await result_of(jobs, evaluation)
    assert (result.outcome, result.attempt, result.worker) == (Outcome.SUCCEEDED, 2, "pod-1")


async def test_an_agent_that_was_restarted_hands_back_and_takes_nothing(jobs: Stack, pod: Pod, tmp_path: Path) -> None:
    evaluation = await submit(jobs, "import time\ntime.sleep(1000)", timeout=2)
    agent = await pod.agent()
    container = pod.container()
    await wait_until(lambda: running(jobs, evaluation), "it runs")
    agent.kill()
    assert await ended(container) == 0

    await pod.agent()
    await wait_until(lambda: waits(jobs), "it is lag again, long before its lease ends")
    await wait_until(pod.ready, "the agent is ready")
    assert await ended(pod.container()) == 0
    assert await waits(jobs)  # the restarted agent left it alone

    second = Pod(jobs, tmp_path, "pod-1")
    await second.agent()
    second.container()
    result = await result_of(jobs, evaluation)
    assert (result.outcome, result.attempt) == (Outcome.TIMED_OUT, 2)


async def test_a_container_that_never_starts_is_named_in_the_result(jobs: Stack, pod: Pod) -> None:
    evaluation = await submit(jobs, "print()", max_attempts=1)
    await pod.agent(EXECUTOR_POD_START="0.2")

    result = await result_of(jobs, evaluation)
    assert result.outcome is Outcome.LOST
    assert "evaluation container did not start within 0.2 s" in result.error


async def running(stack: Stack, evaluation_id: str) -> bool:
    record = await stack.hash(stack.cell.keys.record("default", evaluation_id))
    return record.get("state") == "running"


async def waits(stack: Stack) -> bool:
    return (await stack.upkeep.view("job.cpu")).lag == 1
