"""Which strategy and metric fit one-shot Jobs: the choice of the base manifest, shown by simulation.

The numbers are of one seed; what is asserted is their order.
"""

from __future__ import annotations

import pytest

from keda.manifests import BASE, load
from keda.objects import Calculation, ScaledJob, Strategy, Trigger, TriggerMode
from tests.keda.simulation import World, pending_until_claimed, pending_until_running, simulate

WORLD = World()
LAG = (Trigger("lag", TriggerMode.LAG, 1),)
BOTH = (*LAG, Trigger("pending", TriggerMode.PENDING, 1))


def job(strategy: Strategy, triggers: tuple[Trigger, ...] = LAG, spares: int = 0) -> ScaledJob:
    return ScaledJob(
        name="job-cpu",
        lane="job.cpu",
        group="workers",
        triggers=triggers,
        min_replicas=spares,
        max_replicas=100 + spares,
        strategy=strategy,
        calculation=Calculation.SUM,
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_shipped_manifest_starts_exactly_one_job_per_evaluation(seed: int) -> None:
    _, shipped, *_ = load(BASE)
    assert isinstance(shipped, ScaledJob)

    outcome = simulate(shipped, World(seed=seed), pending_until_claimed)

    assert (outcome.created, outcome.wasted) == (200, 0)
    assert outcome.wait(0.99) < 3.5


def test_accurate_overstarts_when_a_pod_counts_as_running_before_it_has_claimed() -> None:
    outcome = simulate(job(Strategy.ACCURATE), WORLD, pending_until_running(WORLD))

    assert outcome.created > 200
    assert outcome.wasted == outcome.created - 200


def test_default_makes_new_work_wait_for_old_work() -> None:
    accurate = simulate(job(Strategy.ACCURATE), WORLD, pending_until_claimed)
    default = simulate(job(Strategy.DEFAULT), WORLD, pending_until_claimed)

    assert (default.created, default.wasted) == (200, 0)
    assert default.wait(0.5) > 2 * accurate.wait(0.5)
    assert default.wait(0.99) > 3 * accurate.wait(0.99)


def test_default_with_lag_and_pending_is_exact_but_slower() -> None:
    accurate = simulate(job(Strategy.ACCURATE), WORLD, pending_until_claimed)
    both = simulate(job(Strategy.DEFAULT, BOTH), WORLD, pending_until_claimed)

    assert (both.created, both.wasted) == (200, 0)
    assert both.wait(0.5) > accurate.wait(0.5)


def test_accurate_with_lag_and_pending_runs_away() -> None:
    outcome = simulate(job(Strategy.ACCURATE, BOTH), WORLD, pending_until_running(WORLD))

    assert outcome.wasted > 200


def test_default_with_lag_and_pending_refills_spares() -> None:
    """Warm one-shot runners: spares cut the wait, and are there again after each claim."""
    without = simulate(job(Strategy.DEFAULT, BOTH), WORLD, pending_until_claimed)
    spares = simulate(job(Strategy.DEFAULT, BOTH, spares=6), WORLD, pending_until_claimed)

    assert spares.wait(0.5) < without.wait(0.5) / 2


def test_polling_slower_waits_longer_and_still_starts_no_job_too_many() -> None:
    quick = simulate(job(Strategy.ACCURATE), WORLD, pending_until_claimed)
    slow = simulate(job(Strategy.ACCURATE), World(poll=15.0), pending_until_claimed)

    assert (slow.created, slow.wasted) == (200, 0)
    assert slow.wait(0.5) > 2 * quick.wait(0.5)
