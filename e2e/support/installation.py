"""An installation of executor in a namespace of its own, its outside view, and what is kept when a scenario fails."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from e2e.support.kubectl import Kubectl
from executor.keys import Keys
from executor.settings import Settings
from executor.streams.server import Cell

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "e2e" / "overlay"
_NAMESPACE_OF_THE_BASE = "executor-system"


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0, every: float = 0.2) -> Any:
    """The first true value of a condition, looked at again and again.

    Raises:
        AssertionError: there was none in time.
    """
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(every)
    return value


class Installation:
    """One namespace with everything in it.

    Attributes:
        kubectl: in this namespace.
        keys: names of its Redis keys.
    """

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self.keys = Keys()

    def install(self, overlay: Path = OVERLAY) -> None:
        """Apply an overlay and wait until its programs are ready."""
        self.apply(overlay)
        for workload in ("statefulset/executor-redis", "deployment/executor-dispatcher", "deployment/jaeger"):
            self.kubectl("rollout", "status", workload, "--timeout=120s")
        for scaled in ("scaledobject", "scaledjob"):
            self.kubectl("wait", "--for=condition=Ready", scaled, "--all", "--timeout=60s")
        wait_for(lambda: self.pool_pods() == [], "the warm pool is at zero", 120)

    def apply(self, overlay: Path, *words: str) -> str:
        """Apply an overlay, here; returns what the API server says of each object."""
        return self.kubectl("apply", "--server-side", "-f", "-", *words, stdin=self._rendered(overlay))

    def _rendered(self, overlay: Path) -> str:
        """The overlay's objects, moved to this namespace by name, for KEDA is given an address with one in it."""
        objects = list(yaml.safe_load_all(self.kubectl("kustomize", str(overlay))))
        for one in objects:
            if one["kind"] == "Secret":
                data = one.pop("data")
                one["stringData"] = {name: base64.b64decode(value).decode() for name, value in data.items()}
        return yaml.safe_dump_all(objects).replace(_NAMESPACE_OF_THE_BASE, self.kubectl.namespace)

    def remove(self) -> None:
        """Delete the namespace; the cluster finishes it by itself."""
        self.kubectl("delete", "scaledobject,scaledjob,job", "--all", "--wait=false", check=False)
        self.kubectl("delete", "namespace", self.kubectl.namespace, "--wait=false", check=False)

    @contextmanager
    def redis_url(self, role: str = "admin") -> Iterator[str]:
        """The queue server from outside the cluster, with the credentials of a role."""
        with self.kubectl.forward("svc/executor-redis", 6379) as port:
            yield f"redis://{role}:laptop-{role}@127.0.0.1:{port}/0"

    def cell(self, url: str) -> Cell:
        """The cell behind an address that `redis_url` gave."""
        settings = Settings()
        return Cell(url, settings.server, settings.delivery)

    @contextmanager
    def jaeger_url(self) -> Iterator[str]:
        """Jaeger's query API from outside the cluster."""
        with self.kubectl.forward("svc/jaeger", 16686) as port:
            yield f"http://127.0.0.1:{port}"

    def pool_pods(self) -> list[dict[str, Any]]:
        """Pods of the warm pool, ending ones included."""
        return self.kubectl.list("pods", "-l", "app.kubernetes.io/name=executor-worker")

    def jobs(self) -> list[dict[str, Any]]:
        """Jobs that KEDA made."""
        return self.kubectl.list("jobs")

    def nothing_runs(self) -> bool:
        """Whether every Job has ended."""
        return not any(job["status"].get("active") for job in self.jobs())

    def _traces(self) -> str:
        try:
            with self.jaeger_url() as url:
                page = f"{url}/api/traces?service=executor-dispatcher&limit=500"
                with urllib.request.urlopen(page, timeout=10) as answer:
                    return str(answer.read(), "utf-8")
        except (OSError, AssertionError) as error:
            return json.dumps({"error": str(error)})

    def keep(self, folder: Path) -> None:
        """Write events, objects and logs of the namespace into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "events.txt").write_text(self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False))
        kinds = "pods,jobs,deployments,statefulsets,scaledobjects,scaledjobs,hpa"
        (folder / "objects.yaml").write_text(self.kubectl("get", kinds, "-o", "yaml", check=False))
        (folder / "pods.txt").write_text(self.kubectl("describe", "pods", check=False))
        for pod in self.kubectl.list("pods"):
            name = pod["metadata"]["name"]
            logs = self.kubectl("logs", name, "--all-containers", "--prefix", "--tail=500", check=False)
            (folder / f"{name}.log").write_text(logs)
        (folder / "traces.json").write_text(self._traces())
        (folder / "namespace.json").write_text(json.dumps({"namespace": self.kubectl.namespace}))
