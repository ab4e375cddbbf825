"""HPA behavior as tables (pkg/controller/podautoscaler/horizontal.go)."""

from __future__ import annotations

import pytest

from keda.behavior import Change, History, Recommendation, limit, stabilize
from keda.objects import Behavior, PolicyType, ScalingPolicy, ScalingRules, SelectPolicy

NOW = 1000.0


def rules(*policies: tuple[str, int, int], window: int = 0, select: str = "Max") -> ScalingRules:
    return ScalingRules(
        window=window,
        policies=tuple(ScalingPolicy(PolicyType(kind), value, period) for kind, value, period in policies),
        select=SelectPolicy(select),
    )


def up(*policies: tuple[str, int, int], select: str = "Max") -> Behavior:
    return Behavior(up=rules(*policies, select=select))


def down(*policies: tuple[str, int, int], select: str = "Max") -> Behavior:
    return Behavior(down=rules(*policies, select=select))


def history(*changes: tuple[float, int]) -> History:
    return History(changes=tuple(Change(NOW - ago, replicas) for ago, replicas in changes))


@pytest.mark.parametrize(
    ("behavior", "changes", "current", "allowed"),
    [
        (up(("Percent", 100, 15)), [], 1, 2),
        (up(("Percent", 100, 15)), [], 4, 8),
        (up(("Percent", 50, 15)), [], 1, 2),  # rounded up, or 1 would stay 1
        (up(("Percent", 10, 15)), [], 12, 14),
        (up(("Pods", 4, 15)), [], 1, 5),
        (up(("Pods", 4, 15), ("Percent", 100, 15)), [], 1, 5),
        (up(("Pods", 4, 15), ("Percent", 100, 15)), [], 8, 16),
        (up(("Pods", 4, 15), ("Percent", 100, 15), select="Min"), [], 8, 12),
        (up(("Pods", 4, 15), select="Disabled"), [], 8, 8),
        (up(("Percent", 100, 15)), [(10, 2)], 4, 4),  # doubled within the period already: 2 at its start
        (up(("Percent", 100, 15)), [(15, 2)], 4, 8),  # a change as old as the period is out of it
        (up(("Pods", 4, 15)), [(10, 3)], 4, 5),  # 1 at the start + 4
        (up(("Pods", 4, 60)), [(10, 3), (50, 3)], 7, 7),  # budget overspent: it stays, it does not go back
        (up(("Pods", 4, 60)), [(10, -3)], 7, 14),  # what was removed in the period may come back
        (Behavior(), [], 1, 5),  # Kubernetes' default: 4 pods or a doubling
        (Behavior(), [], 20, 40),
    ],
)
def test_scale_up_limit(behavior: Behavior, changes: list[tuple[float, int]], current: int, allowed: int) -> None:
    got = limit(behavior, history(*changes), current=current, desired=99, minimum=1, maximum=100, now=NOW)

    assert got == allowed


@pytest.mark.parametrize(
    ("behavior", "changes", "current", "allowed"),
    [
        (down(("Percent", 10, 60)), [], 10, 9),
        (down(("Percent", 10, 60)), [], 2, 1),  # 1.8 is cut off, so ten percent of two is one
        (down(("Percent", 100, 15)), [], 10, 1),
        (down(("Pods", 2, 60)), [], 10, 8),
        (down(("Pods", 2, 60), ("Percent", 50, 60)), [], 10, 5),
        (down(("Pods", 2, 60), ("Percent", 50, 60), select="Min"), [], 10, 8),
        (down(("Pods", 2, 60), select="Disabled"), [], 10, 10),
        (down(("Percent", 10, 60)), [(30, -1)], 9, 9),  # 10 at the start of the period: its ten percent is gone
        (down(("Percent", 10, 60)), [(60, -1)], 9, 8),
        (down(("Pods", 2, 60)), [(10, -3), (50, -3)], 4, 4),  # budget overspent: it stays, it does not go back
        (down(("Pods", 2, 60)), [(30, 5)], 10, 3),  # what was added in the period may go again
        (Behavior(), [], 10, 1),
    ],
)
def test_scale_down_limit(behavior: Behavior, changes: list[tuple[float, int]], current: int, allowed: int) -> None:
    got = limit(behavior, history(*changes), current=current, desired=0, minimum=1, maximum=100, now=NOW)

    assert got == allowed


@pytest.mark.parametrize(("current", "desired", "expected"), [(8, 20, 10), (5, 2, 3), (5, 5, 5), (5, 6, 6), (5, 4, 4)])
def test_bounds_and_small_steps(current: int, desired: int, expected: int) -> None:
    got = limit(Behavior(), History(), current=current, desired=desired, minimum=3, maximum=10, now=NOW)

    assert got == expected


@pytest.mark.parametrize(
    ("up_window", "down_window", "past", "current", "desired", "expected"),
    [
        (0, 300, [], 2, 5, 5),
        (0, 300, [], 5, 2, 2),
        (0, 300, [(100, 5)], 5, 2, 5),  # someone needed five 100 s ago
        (0, 300, [(300, 5)], 5, 2, 2),  # as old as the window is out of it
        (0, 300, [(100, 4), (50, 3)], 5, 2, 4),  # the highest of the window
        (0, 300, [(100, 9)], 5, 2, 5),  # never up because of the past
        (60, 0, [(30, 2)], 2, 8, 2),  # up waits until the lowest of its window asks for it
        (60, 0, [(30, 5), (10, 8)], 2, 8, 5),
        (60, 0, [(60, 2)], 2, 8, 8),
        (60, 300, [(30, 2), (100, 9)], 5, 7, 5),  # between both limits nothing moves
        (0, 0, [(1, 9), (1, 1)], 5, 7, 7),
    ],
)
def test_stabilization(
    *, up_window: int, down_window: int, past: list[tuple[float, int]], current: int, desired: int, expected: int
) -> None:
    behavior = Behavior(up=rules(window=up_window), down=rules(window=down_window))
    remembered = History(tuple(Recommendation(NOW - ago, replicas) for ago, replicas in past))

    assert stabilize(behavior, remembered, current=current, desired=desired, now=NOW) == expected


def test_history_forgets_what_no_window_or_policy_can_see() -> None:
    behavior = Behavior(up=rules(("Pods", 1, 15), window=10), down=rules(("Pods", 1, 60), window=300))
    past = History()
    for second in range(1000):
        past = past.recommended(behavior, 1, float(second)).changed(behavior, 1, float(second))

    assert len(past.recommendations) == 301
    assert len(past.changes) == 61


def test_the_first_sync_recommends_what_it_finds() -> None:
    first = History().observed(3, NOW)

    assert first.recommendations == (Recommendation(NOW, 3),)
    assert first.observed(7, NOW + 1) == first
