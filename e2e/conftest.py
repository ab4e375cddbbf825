"""A cluster, and an installation for each scenario in a namespace of its own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.support.installation import ROOT, Installation
from e2e.support.kubectl import Kubectl

ARTIFACTS = ROOT / ".cluster" / "artifacts"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runs", type=int, default=20, help="how often a latency is measured from zero")


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    """The cluster to use; `e2e/run` sets KUBECONFIG to one of its own when there is none."""
    path = os.environ.get("KUBECONFIG", "")
    assert path, "KUBECONFIG is not set: run `make e2e`, or point it at a cluster with KEDA"
    return path


@pytest.fixture(scope="module")
def installation(kubeconfig: str, request: pytest.FixtureRequest) -> Iterator[Installation]:
    """Everything, installed for one scenario; what there is to see is kept when it fails."""
    scenario = Path(request.node.path).parent.name.replace("_", "-")
    kubectl = Kubectl(kubeconfig, f"e2e-{scenario}-{secrets.token_hex(2)}")
    installed = Installation(kubectl)
    failed = request.session.testsfailed
    try:
        installed.install()
        yield installed
    except BaseException:
        installed.keep(ARTIFACTS / scenario)
        raise
    finally:
        if request.session.testsfailed > failed:
            installed.keep(ARTIFACTS / scenario)
        installed.remove()
