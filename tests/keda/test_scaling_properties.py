"""What holds for every manifest, demand and count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keda.behavior import Change, History, Recommendation
from keda.demand import Demand
from keda.expression import Formula
from keda.job_formula import jobs_to_create
from keda.objects import (
    Behavior,
    Calculation,
    PolicyType,
    ScaledJob,
    ScaledObject,
    ScalingModifiers,
    ScalingPolicy,
    ScalingRules,
    SelectPolicy,
    Strategy,
    Trigger,
    TriggerMode,
)
from keda.pool_formula import PoolState, poll, sync

counts = st.integers(0, 300)
demands = st.builds(Demand, lag=st.none() | counts, pending=counts)
triggers = st.lists(
    st.builds(
        Trigger,
        name=st.sampled_from(["lag", "pending"]),
        mode=st.sampled_from(TriggerMode),
        target=st.integers(1, 9),
        activation=st.integers(0, 3),
    ),
    min_size=1,
    max_size=3,
).map(tuple)
policies = st.builds(
    ScalingPolicy, type=st.sampled_from(PolicyType), value=st.integers(1, 200), period=st.integers(1, 90)
)
rules = st.builds(
    ScalingRules,
    window=st.integers(0, 300),
    policies=st.lists(policies, min_size=1, max_size=3).map(tuple),
    select=st.sampled_from(SelectPolicy),
)
behaviors = st.builds(Behavior, up=rules, down=rules)
moments = st.floats(0, 1000)
histories = st.builds(
    History,
    recommendations=st.lists(st.builds(Recommendation, at=moments, replicas=counts), max_size=5).map(tuple),
    changes=st.lists(st.builds(Change, at=moments, replicas=st.integers(-20, 20)), max_size=5).map(tuple),
)


@st.composite
def jobs(draw: st.DrawFn) -> ScaledJob:
    minimum = draw(st.integers(0, 20))
    return ScaledJob(
        name="job-cpu",
        lane="job.cpu",
        group="workers",
        triggers=draw(triggers),
        min_replicas=minimum,
        max_replicas=minimum + draw(st.integers(1, 50)),
        strategy=draw(st.sampled_from(Strategy)),
        calculation=draw(st.sampled_from(Calculation)),
    )


@st.composite
def pools(draw: st.DrawFn) -> ScaledObject:
    minimum = draw(st.integers(0, 20))
    formula = st.just(ScalingModifiers(Formula.parse("lag + pending", ("lag", "pending")), 2))
    named = (Trigger("lag", TriggerMode.LAG, 1), Trigger("pending", TriggerMode.PENDING, 1))
    return ScaledObject(
        name="warm-python",
        lane="warm.python",
        group="workers",
        triggers=named,
        min_replicas=minimum,
        max_replicas=minimum + draw(st.integers(1, 50)),
        modifiers=draw(st.none() | formula),
        behavior=draw(behaviors),
    )


@given(job=jobs(), demand=demands, running=st.integers(0, 80), data=st.data())
def test_jobs_are_never_negative_and_never_above_the_maximum(
    job: ScaledJob, demand: Demand, running: int, data: st.DataObject
) -> None:
    pending = data.draw(st.integers(0, running))

    created = jobs_to_create(job, demand, running=running, pending=pending)

    assert created >= 0
    assert running + created <= max(job.max_replicas, running)


@given(lag=counts, busy=st.integers(0, 80), waiting=st.integers(0, 80))
def test_accurate_with_lag_never_has_more_unclaimed_jobs_than_entries(lag: int, busy: int, waiting: int) -> None:
    trigger = (Trigger("", TriggerMode.LAG, 1),)
    job = ScaledJob("job-cpu", "job.cpu", "workers", trigger, strategy=Strategy.ACCURATE)

    created = jobs_to_create(job, Demand(lag, busy), running=busy + waiting, pending=waiting)

    assert waiting + created <= max(lag, waiting)


@given(pool=pools(), demand=demands, replicas=st.integers(0, 80), history=histories)
def test_an_hpa_stays_within_its_bounds_and_at_zero(
    pool: ScaledObject, demand: Demand, replicas: int, history: History
) -> None:
    state = PoolState(created_at=0.0, history=history)

    got = sync(pool, state, demand, replicas=replicas, now=1000.0).replicas

    assert got == 0 if replicas == 0 else max(pool.min_replicas, 1) <= got <= pool.max_replicas


@given(pool=pools(), demand=demands, replicas=st.integers(0, 80), last=st.none() | moments)
def test_the_operator_opens_the_door_closes_it_or_leaves_it(
    pool: ScaledObject, demand: Demand, replicas: int, last: float | None
) -> None:
    got = poll(pool, PoolState(0.0, last), demand, replicas=replicas, now=1000.0).replicas

    assert got in {0, replicas, max(pool.min_replicas, 1)}
