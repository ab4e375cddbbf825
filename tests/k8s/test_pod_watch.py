"""When pods came to be, from what the API server tells of them; real events are seen in e2e/zero_to_result."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from k8s import pod_watch
from k8s.cluster import WatchEnded
from k8s.pod_watch import LANE, PodWatch
from tests.support.wait import wait_until

SECOND = 1_000_000_000


def stated(ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str, created: str, scheduled: str = "", job: str = "") -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled}] if scheduled else []
    owners = [{"kind": "Job", "name": job}] if job else [{"kind": "ReplicaSet", "name": "r"}]
    labels = {LANE: "job.cpu"}
    meta = {"name": name, "creationTimestamp": created, "ownerReferences": owners, "labels": labels}
    return {"metadata": meta, "status": {"conditions": conditions}}


def job(name: str, created: str, **status: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {LANE: "job.cpu"}}}
    return {"metadata": {"name": name, "creationTimestamp": created}, "spec": {"template": template}, "status": status}


def watching(*pods: dict[str, Any], jobs: tuple[dict[str, Any], ...] = ()) -> PodWatch:
    def events(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from (("ADDED", one) for one in (jobs if "/jobs" in path else pods))
        threading.Event().wait()  # as a watch does when nothing happens

    phases = PodWatch("here", events)
    phases.start()
    return phases


async def test_a_pod_of_a_job_has_three_phases_in_order() -> None:
    phases = watching(pod("p", stated(20), stated(10), "j"), jobs=(job("j", stated(30)),))
    await wait_until(lambda: len(phases.phases_of("p")) == 3, "all is seen")

    names, ends = zip(*phases.phases_of("p"), strict=True)
    assert names == ("pod.scale", "pod.create", "pod.schedule")
    assert list(ends) == sorted(ends)


async def test_a_pod_of_a_pool_is_scaled_until_it_is_made() -> None:
    phases = watching(pod("p", stated(20), stated(10)))
    await wait_until(lambda: len(phases.phases_of("p")) == 2, "all is seen")

    assert [name for name, _ in phases.phases_of("p")] == ["pod.scale", "pod.schedule"]
    assert phases.phases_of("another") == []


async def test_a_moment_is_within_its_second_and_not_after_it_was_seen() -> None:
    before = time.time_ns()
    phases = watching(pod("old", stated(100)), pod("new", stated(0)))
    await wait_until(lambda: bool(phases.phases_of("new")), "it is seen")

    old, new = phases.phases_of("old")[0][1], phases.phases_of("new")[0][1]
    assert 99 * SECOND <= before - old <= 101 * SECOND
    assert before - SECOND <= new <= time.time_ns()


async def test_a_watch_that_breaks_is_told_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pod_watch, "_AGAIN", 0.01)
    tries: list[str] = []

    def events(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        tries.append(path)
        if len(tries) <= 20:
            raise WatchEnded("403: pods is forbidden")
        yield "ADDED", job("j", stated(1)) if "/jobs" in path else pod("p", stated(1))
        threading.Event().wait()

    phases = PodWatch("here", events)
    phases.start()
    await wait_until(lambda: bool(phases.phases_of("p")), "it is seen after all")

    told = [record for record in caplog.records if getattr(record, "reason", "") == "403: pods is forbidden"]
    assert len(told) == 2  # one for each of the two watches


async def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_watch, "_KEPT", 2)
    phases = watching(*(pod(name, stated(1)) for name in "abc"))
    await wait_until(lambda: bool(phases.phases_of("c")), "the last is seen")

    assert phases.phases_of("a") == []
    assert phases.phases_of("b")


UNPLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes have a GPU"}
PULLING = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
CREATING = {"state": {"waiting": {"reason": "ContainerCreating"}}}


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"conditions": [UNPLACED]}, "pod p: Unschedulable: 0/1 nodes have a GPU"),
        ({"containerStatuses": [PULLING]}, "pod p: ImagePullBackOff: no such image"),
        (
            {"initContainerStatuses": [PULLING], "containerStatuses": [CREATING]},
            "pod p: ImagePullBackOff: no such image",
        ),
        ({"containerStatuses": [CREATING]}, ""),
        ({"containerStatuses": [{"state": {"running": {}}}]}, ""),
    ],
)
async def test_why_a_lane_has_no_worker_is_what_its_pod_says(status: dict[str, Any], why: str) -> None:
    one = pod("p", stated(5))
    one["status"] = status
    pods = watching(one)
    await wait_until(lambda: bool(pods.phases_of("p")), "it is seen")

    assert pods.why_idle("job.cpu") == why


async def test_a_lane_without_a_pod_points_at_its_job_or_at_its_scaling() -> None:
    ended = job("a", stated(9), conditions=[{"type": "Complete", "status": "True"}])
    at_work = job("b", stated(9), active=1)
    pods = watching(jobs=(ended, at_work, job("c", stated(5))))
    await wait_until(lambda: "Job" in pods.why_idle("job.cpu"), "they are seen")

    assert pods.why_idle("job.cpu") == "Job c has no pod: `kubectl describe job c` says why"
    assert pods.why_idle("job.gpu") == "no pod was made for the lane: `executor doctor` looks at its scaling"
