"""When pods came to be, from what the API server tells of them; real events are seen in e2e/zero_to_result."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from k8s import pod_phases
from k8s.cluster import WatchEnded
from k8s.pod_phases import PodPhases
from tests.support.wait import wait_until

SECOND = 1_000_000_000


def stated(ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str, created: str, scheduled: str = "", job: str = "") -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled}] if scheduled else []
    owners = [{"kind": "Job", "name": job}] if job else [{"kind": "ReplicaSet", "name": "r"}]
    meta = {"name": name, "creationTimestamp": created, "ownerReferences": owners}
    return {"metadata": meta, "status": {"conditions": conditions}}


def watching(*pods: dict[str, Any], jobs: tuple[dict[str, Any], ...] = ()) -> PodPhases:
    def events(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from (("ADDED", one) for one in (jobs if "/jobs" in path else pods))
        threading.Event().wait()  # as a watch does when nothing happens

    phases = PodPhases("here", events)
    phases.start()
    return phases


async def test_a_pod_of_a_job_has_three_phases_in_order() -> None:
    job = {"metadata": {"name": "j", "creationTimestamp": stated(30)}}
    phases = watching(pod("p", stated(20), stated(10), "j"), jobs=(job,))
    await wait_until(lambda: len(phases.of("p")) == 3, "all is seen")

    names, ends = zip(*phases.of("p"), strict=True)
    assert names == ("pod.scale", "pod.create", "pod.schedule")
    assert list(ends) == sorted(ends)


async def test_a_pod_of_a_pool_is_scaled_until_it_is_made() -> None:
    phases = watching(pod("p", stated(20), stated(10)))
    await wait_until(lambda: len(phases.of("p")) == 2, "all is seen")

    assert [name for name, _ in phases.of("p")] == ["pod.scale", "pod.schedule"]
    assert phases.of("another") == []


async def test_a_moment_is_within_its_second_and_not_after_it_was_seen() -> None:
    before = time.time_ns()
    phases = watching(pod("old", stated(100)), pod("new", stated(0)))
    await wait_until(lambda: bool(phases.of("new")), "it is seen")

    old, new = phases.of("old")[0][1], phases.of("new")[0][1]
    assert 99 * SECOND <= before - old <= 101 * SECOND
    assert before - SECOND <= new <= time.time_ns()


async def test_a_watch_that_breaks_is_told_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pod_phases, "_AGAIN", 0.01)
    tries: list[str] = []

    def events(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        tries.append(path)
        if len(tries) <= 20:
            raise WatchEnded("403: pods is forbidden")
        yield "ADDED", pod("p", stated(1))
        threading.Event().wait()

    phases = PodPhases("here", events)
    phases.start()
    await wait_until(lambda: bool(phases.of("p")), "it is seen after all")

    told = [record for record in caplog.records if getattr(record, "reason", "") == "403: pods is forbidden"]
    assert len(told) == 2  # one for each of the two watches


async def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_phases, "_KEPT", 2)
    phases = watching(*(pod(name, stated(1)) for name in "abc"))
    await wait_until(lambda: bool(phases.of("c")), "the last is seen")

    assert phases.of("a") == []
    assert phases.of("b")
