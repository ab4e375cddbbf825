"""What is written about busy pods, and how seldom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from k8s import deletion_cost
from k8s.cluster import Reply
from k8s.deletion_cost import ANNOTATION, DeletionCost
from tests.support.wait import wait_until


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion_cost, "_EVERY", 0.0)


class Written:
    """Keeps what would go to the API server."""

    def __init__(self) -> None:
        self.patches: list[tuple[str, str]] = []

    def __call__(self, path: str, body: dict[str, Any]) -> Reply:
        self.patches.append((path.rpartition("/")[2], body["metadata"]["annotations"][ANNOTATION]))
        return Reply(200, {})


async def told(cost: DeletionCost, **busy: int) -> None:
    cost.follow(busy)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "deletion-cost"))


async def test_only_what_changes_is_written(at_once: None) -> None:
    written = Written()
    cost = DeletionCost("here", written)
    await told(cost, a=0, b=2)
    await told(cost, a=0, b=2)
    await told(cost, a=1, b=0)

    assert written.patches == [("b", "2"), ("a", "1"), ("b", "0")]


async def test_a_pod_that_comes_back_under_its_name_is_written_again(at_once: None) -> None:
    written = Written()
    cost = DeletionCost("here", written)
    await told(cost, a=1)
    await told(cost)
    await told(cost, a=1)

    assert written.patches == [("a", "1"), ("a", "1")]


async def test_changes_in_quick_succession_are_one_write() -> None:
    written = Written()
    cost = DeletionCost("here", written)
    for busy in (1, 2, 1, 2):
        await told(cost, a=busy)

    assert written.patches == [("a", "1")]


async def test_a_refusal_is_told_and_costs_nothing_else(at_once: None, caplog: pytest.LogCaptureFixture) -> None:
    cost = DeletionCost("here", lambda _path, _body: Reply(403, "pods is forbidden"))
    await told(cost, a=1)

    await wait_until(lambda: "deletion cost was not written" in caplog.text, "the refusal is logged")
