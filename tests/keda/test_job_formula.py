"""ScaledJob arithmetic as tables (pkg/scaling/executor/scale_jobs.go, pkg/scaling/scaledjob/metrics.go)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keda.demand import Demand
from keda.job_formula import jobs_to_create, queue, wanted
from keda.objects import Calculation, ScaledJob, Strategy, Trigger, TriggerMode

LAG = Trigger("lag", TriggerMode.LAG, target=1)
PENDING = Trigger("pending", TriggerMode.PENDING, target=1)
JOB = ScaledJob("job-cpu", "job.cpu", "workers", (LAG,), max_replicas=10, strategy=Strategy.ACCURATE)


@pytest.mark.parametrize(
    ("strategy", "scale", "running", "pending", "expected"),
    [
        (Strategy.DEFAULT, 5, 0, 0, 5),
        (Strategy.DEFAULT, 5, 3, 0, 2),  # busy Jobs are subtracted although lag does not count their entries
        (Strategy.DEFAULT, 5, 3, 3, 2),  # pending makes no difference
        (Strategy.DEFAULT, 2, 5, 0, -3),
        (Strategy.ACCURATE, 5, 0, 0, 5),
        (Strategy.ACCURATE, 5, 3, 0, 5),  # busy Jobs are not subtracted
        (Strategy.ACCURATE, 5, 3, 3, 2),  # Jobs on their way are
        (Strategy.ACCURATE, 5, 5, 5, 0),
        (Strategy.ACCURATE, 2, 5, 5, -3),
        (Strategy.ACCURATE, 5, 6, 0, 4),  # 5 + 6 - 0 > 10: what is left of the headroom
        (Strategy.ACCURATE, 5, 5, 0, 5),  # 5 + 5 - 0 = 10 fits
        (Strategy.ACCURATE, 8, 4, 4, 4),  # 8 + 4 - 4 fits; before keda#7329 8 + 4 > 10 started 6
        (Strategy.ACCURATE, 8, 8, 4, 2),  # 8 + 8 - 4 > 10
        (Strategy.ACCURATE, 10, 10, 0, 0),
        (Strategy.ACCURATE, 1, 11, 0, -1),  # running beyond the headroom, after it was lowered
    ],
)
def test_strategies(strategy: Strategy, scale: int, running: int, pending: int, expected: int) -> None:
    assert wanted(strategy, scale=scale, running=running, pending=pending, headroom=10) == expected


@pytest.mark.parametrize(
    ("lag", "running", "pending", "expected"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (3, 0, 0, 3),
        (3, 2, 2, 1),
        (3, 3, 3, 0),
        (3, 9, 0, 1),
        (3, 10, 0, 0),
        (200, 0, 0, 10),
        (200, 10, 10, 0),
        (None, 0, 0, 0),
    ],
)
def test_one_poll_of_an_accurate_job(lag: int | None, running: int, pending: int, expected: int) -> None:
    assert jobs_to_create(JOB, Demand(lag, pending=7), running=running, pending=pending) == expected


def test_a_nil_lag_is_inactive_whatever_waits() -> None:
    """The trap of redis/go-redis#3369: nil becomes -1, which is greater than no activation."""
    ask = queue(JOB, Demand(lag=None, pending=50))

    assert (ask.active, ask.length, ask.scale) == (False, 0, 0)


@pytest.mark.parametrize(("activation", "lag", "created"), [(0, 1, 1), (1, 1, 0), (1, 2, 2), (5, 5, 0), (5, 6, 6)])
def test_activation_is_strictly_greater(activation: int, lag: int, created: int) -> None:
    job = replace(JOB, triggers=(replace(LAG, activation=activation),))

    assert jobs_to_create(job, Demand(lag, 0), running=0, pending=0) == created


@pytest.mark.parametrize(
    ("target", "lag", "scale", "created"), [(1, 7, 7, 7), (2, 7, 4, 4), (5, 7, 2, 2), (5, 1, 1, 1), (1, 40, 10, 10)]
)
def test_entries_per_job_round_up(target: int, lag: int, scale: int, created: int) -> None:
    job = replace(JOB, triggers=(replace(LAG, target=target),))

    assert queue(job, Demand(lag, 0)).scale == scale
    assert jobs_to_create(job, Demand(lag, 0), running=0, pending=0) == created


@pytest.mark.parametrize(
    ("running", "pending", "lag", "expected"),
    [
        (0, 0, 0, 3),  # the spares, though nothing waits
        (2, 0, 9, 1),  # below the minimum nothing else is started at this poll
        (3, 3, 0, 0),
        (3, 0, 2, 2),  # spares are not taken off the demand (keda#4554)
        (4, 0, 9, 6),  # headroom 7: 9 is worth 7, and 7 + 1 - 0 > 7 leaves 7 - 1
        (3, 0, None, 0),
        (1, 0, None, 2),  # spares are kept even without a lag
    ],
)
def test_min_replica_count_keeps_spares(running: int, pending: int, lag: int | None, expected: int) -> None:
    job = replace(JOB, min_replicas=3)

    assert job.headroom == 7
    assert jobs_to_create(job, Demand(lag, 0), running=running, pending=pending) == expected


@pytest.mark.parametrize(
    ("calculation", "lag", "pending", "length", "scale"),
    [
        (Calculation.MAX, 4, 6, 6, 6),
        (Calculation.MIN, 4, 6, 4, 4),
        (Calculation.SUM, 4, 6, 10, 10),
        (Calculation.AVG, 4, 6, 5, 5),
        (Calculation.AVG, 4, 5, 5, 5),  # 4.5 rounds up
        (Calculation.SUM, 8, 7, 15, 10),  # the sum is capped once more
        (Calculation.MIN, 0, 6, 6, 6),  # only active triggers count
        (Calculation.AVG, 0, 6, 6, 6),
        (Calculation.MAX, 0, 6, 6, 6),
        (Calculation.SUM, None, 6, 6, 6),
    ],
)
def test_several_triggers_become_one_queue(
    calculation: Calculation, lag: int | None, pending: int, length: int, scale: int
) -> None:
    job = replace(JOB, triggers=(LAG, PENDING), calculation=calculation)

    ask = queue(job, Demand(lag, pending))

    assert (ask.active, ask.length, ask.scale) == (True, length, scale)


def test_no_active_trigger_no_queue() -> None:
    job = replace(JOB, triggers=(LAG, PENDING), calculation=Calculation.SUM)

    assert not queue(job, Demand(0, 0)).active
    assert jobs_to_create(job, Demand(0, 0), running=0, pending=0) == 0


def test_pending_alone_never_starts_from_zero() -> None:
    """Nothing is delivered until someone reads (keda#2044, keda#3127)."""
    job = replace(JOB, triggers=(PENDING,))

    assert jobs_to_create(job, Demand(lag=200, pending=0), running=0, pending=0) == 0
