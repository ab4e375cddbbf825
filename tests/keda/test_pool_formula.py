"""ScaledObject decisions as tables: the operator's poll and the HPA's sync."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from keda.demand import Demand
from keda.expression import Formula
from keda.objects import Behavior, ScaledObject, ScalingModifiers, ScalingRules, Trigger, TriggerMode
from keda.pool_formula import PoolState, desired_replicas, is_active, poll, sync

LAG = Trigger("lag", TriggerMode.LAG, target=1)
PENDING = Trigger("pending", TriggerMode.PENDING, target=1)


def modifiers(formula: str = "lag + pending", target: float = 2, activation: float = 0) -> ScalingModifiers:
    return ScalingModifiers(Formula.parse(formula, ("lag", "pending")), target, activation)


INSTANT = Behavior(down=replace(Behavior().down, window=0))
POOL = ScaledObject(
    "warm-python", "warm.python", "workers", (LAG, PENDING), modifiers=modifiers(), max_replicas=10, behavior=INSTANT
)
NO_FORMULA = replace(POOL, modifiers=None)
NEW = PoolState(created_at=0.0)


@pytest.mark.parametrize(
    ("pool", "lag", "pending", "active"),
    [
        (POOL, 0, 0, False),
        (POOL, 1, 0, True),
        (POOL, 0, 1, True),
        (POOL, None, 0, False),
        (POOL, None, 1, True),  # a nil lag adds nothing, it does not take away
        (replace(POOL, modifiers=modifiers(activation=2)), 1, 1, False),
        (replace(POOL, modifiers=modifiers(activation=2)), 2, 1, True),
        (replace(POOL, modifiers=modifiers("lag / 3000")), 1, 0, False),  # below a thousandth there is nothing
        (replace(POOL, modifiers=modifiers("lag / 3000")), 3, 0, True),
        (replace(POOL, modifiers=modifiers("lag - 5")), 3, 0, False),
        (NO_FORMULA, 0, 1, True),
        (NO_FORMULA, 0, 0, False),
        (NO_FORMULA, None, 0, False),
        (replace(NO_FORMULA, triggers=(replace(LAG, activation=1),)), 1, 0, False),
        (replace(NO_FORMULA, triggers=(replace(LAG, activation=1),)), 2, 0, True),
    ],
)
def test_activity(pool: ScaledObject, lag: int | None, pending: int, active: bool) -> None:
    assert is_active(pool, Demand(lag, pending)) is active


@pytest.mark.parametrize(
    ("minimum", "replicas", "lag", "expected"),
    [
        (0, 0, 0, 0),
        (0, 0, 1, 1),
        (0, 0, 500, 1),  # the operator only opens the door; the HPA does the rest
        (3, 0, 1, 3),
        (3, 0, 0, 3),  # below the minimum, active or not
        (3, 1, 0, 3),
        (3, 1, 5, 1),  # active and above zero: left to the HPA
        (0, 4, 5, 4),
        (3, 5, 0, 5),  # with a minimum the operator never scales in
    ],
)
def test_poll(minimum: int, replicas: int, lag: int, expected: int) -> None:
    pool = replace(POOL, min_replicas=minimum)

    assert (
        poll(pool, PoolState(0.0, last_active=99.0), Demand(lag, 0), replicas=replicas, now=100.0).replicas == expected
    )


@pytest.mark.parametrize(
    ("last_active", "now", "expected"),
    [(100.0, 399.9, 7), (100.0, 400.0, 7), (100.0, 400.1, 0), (None, 20.0, 7), (None, 20.1, 0)],
)
def test_the_cooldown_counts_from_the_last_active_poll(last_active: float | None, now: float, expected: int) -> None:
    """And going to zero is one step from any number: KEDA does not wait for the HPA."""
    pool = replace(POOL, cooldown=300, initial_cooldown=20)

    assert poll(pool, PoolState(0.0, last_active), Demand(0, 0), replicas=7, now=now).replicas == expected


def test_only_active_polls_move_the_start_of_the_cooldown() -> None:
    state = poll(POOL, NEW, Demand(1, 0), replicas=1, now=10.0).state
    state = poll(POOL, state, Demand(0, 0), replicas=1, now=20.0).state

    assert state.last_active == 10.0


@pytest.mark.parametrize(
    ("value", "target", "replicas", "expected"),
    [
        (0, 2, 1, 0),
        (1, 2, 1, 1),
        (2, 2, 1, 1),
        (3, 2, 1, 2),
        (21, 2, 10, 10),  # 1.05 is within the tolerance
        (22, 2, 10, 10),  # 1.1 is the edge, and still within
        (23, 2, 10, 12),
        (18, 2, 10, 10),  # 0.9 is the other edge
        (17, 2, 10, 9),
        (Fraction(1, 2), 0.5, 1, 1),
        (9, 1.5, 1, 6),
        (-1, 2, 1, 2**31 - 1),  # reads as an overflow in Kubernetes: a formula must not go below zero
    ],
)
def test_average_value_with_tolerance(value: Fraction | int, target: float, replicas: int, expected: int) -> None:
    assert desired_replicas(Fraction(value), target, replicas) == expected


@pytest.mark.parametrize(
    ("lag", "pending", "replicas", "expected"),
    [
        (0, 0, 0, 0),
        (50, 0, 0, 0),  # inert at zero, whatever waits
        (0, 0, 3, 1),
        (0, 6, 3, 3),  # everything is claimed and being worked on: nobody leaves
        (0, 5, 3, 3),
        (0, 4, 3, 2),
        (4, 4, 3, 4),
        (500, 0, 8, 10),
        (500, 0, 12, 10),  # maxReplicaCount was lowered
        (None, 6, 3, 3),
    ],
)
def test_sync(lag: int | None, pending: int, replicas: int, expected: int) -> None:
    assert sync(POOL, NEW, Demand(lag, pending), replicas=replicas, now=1000.0).replicas == expected


def test_lag_alone_takes_busy_pods_away() -> None:
    """Why the formula adds pending: with everything claimed, lag is zero while all work (keda#6719)."""
    everything_claimed = Demand(lag=0, pending=6)

    alone = sync(replace(POOL, modifiers=modifiers("lag")), NEW, everything_claimed, replicas=3, now=0.0)
    both = sync(POOL, NEW, everything_claimed, replicas=3, now=0.0)

    assert (alone.replicas, both.replicas) == (1, 3)


def test_without_a_formula_the_largest_proposal_wins() -> None:
    pool = replace(NO_FORMULA, triggers=(replace(LAG, target=2), replace(PENDING, target=1)))

    assert sync(pool, NEW, Demand(lag=6, pending=5), replicas=4, now=0.0).replicas == 5


def test_the_minimum_holds_in_the_hpa_too() -> None:
    pool = replace(POOL, min_replicas=3)

    assert sync(pool, NEW, Demand(0, 0), replicas=2, now=0.0).replicas == 3
    assert sync(pool, NEW, Demand(0, 0), replicas=5, now=0.0).replicas == 3


def test_a_burst_doubles_each_period_and_an_idle_pool_waits_out_its_window() -> None:
    """The base manifest in one picture: 1, 2, 4, 8, 10 up; five minutes later one pod a minute down."""
    base = Behavior(
        up=ScalingRules(window=0, policies=(replace(Behavior().up.policies[1], value=100, period=15),)),
        down=ScalingRules(window=300, policies=(replace(Behavior().down.policies[0], value=10, period=60),)),
    )
    pool, state, replicas, seen = replace(POOL, behavior=base), NEW, 1, [1]
    for second in range(1, 1200):
        demand = Demand(100, 0) if second < 100 else Demand(0, 1)
        decision = sync(pool, state, demand, replicas=replicas, now=float(second))
        state, replicas = decision.state, decision.replicas
        if replicas != seen[-1]:
            seen.append(replicas)
        if second == 398:
            assert replicas == 10

    assert seen == [1, 2, 4, 8, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
