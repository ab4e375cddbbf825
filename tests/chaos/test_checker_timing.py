"""Each promise about time, order and what is left, broken by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.checker import RULES
from tests.chaos.test_checker_delivery import BROKEN, Story

ORDER, RECOVERY = "order within a tenant and priority", "held work is recovered in time"
LAG, WAKE = "lag is known", "lanes wake from zero after each fault"
REST, ERRORS = "nothing is left", "no program meets an error of its own"
BOUND = 2 + 5 + 1.5
"""Lease, some seconds, and the program's own."""


def fault(story: Story, began: float, ended: float, number: int = 1, **facts: Any) -> Story:
    known = {"fault": "worker-kill", "held": [], "struck": began, "pids": [], "detail": ""}
    return story.say("fault", "", at=ended, number=number, began=began, ended=ended, **{**known, **facts})


def held(result_after: float, **facts: Any) -> Story:
    """One evaluation that a victim held at 100 s, and that has its result so much later."""
    story = Story().program().sent().started()
    story.say("committed", at=100 + result_after, outcome="succeeded", attempt=1, worker="w", error="", stdout="1\n")
    story.say("seen", at=100 + result_after, program=1, of="one", outcome="succeeded", attempt=1, stdout="1\n")
    story.record(**facts)
    return fault(story, 100, 100, held=["default/one"])


def test_held_work_is_back_within_the_bound() -> None:
    assert held(BOUND - 0.1).broken() == {}


def test_held_work_that_comes_late_is_named() -> None:
    assert RECOVERY in held(BOUND + 0.1).broken()


def test_an_outage_meanwhile_does_not_count_against_recovery() -> None:
    assert fault(held(BOUND + 2), 101, 104, number=2, fault="server-kill").broken() == {}


def test_overlapping_outages_count_once() -> None:
    story = fault(held(BOUND + 5), 101, 104, number=2, fault="server-kill")

    assert RECOVERY in fault(story, 101, 104, number=3, fault="memory-full").broken()


def test_a_second_blow_starts_the_time_anew() -> None:
    assert fault(held(BOUND + 2), 103, 103, number=2, held=["default/one"]).broken() == {}


@pytest.mark.parametrize(("seconds", "broken"), [(2.9, False), (3.1, True)])
def test_a_lag_that_stays_unknown_is_named(seconds: float, broken: bool) -> None:
    story = Story().whole().say("nil", "", lane="warm.python", began=100.0, ended=100.0 + seconds)

    assert (LAG in story.broken()) is broken


@pytest.mark.parametrize(("seconds", "broken"), [(14.9, False), (15.1, True)])
def test_a_lane_that_wakes_late_is_named(seconds: float, broken: bool) -> None:
    story = fault(Story().whole(), 100, 101)
    story.say("probe", "stranger/probe", number=1, fault="worker-kill", began=101.0, ended=101.0 + seconds)

    assert (WAKE in story.broken()) is broken


def test_a_fault_that_no_probe_followed_is_named() -> None:
    story = fault(fault(Story().whole(), 100, 101), 102, 103, number=2)
    story.say("probe", "stranger/probe", number=1, fault="worker-kill", began=101.0, ended=102.0)

    assert WAKE in story.broken()


def entering(*asked: int, admitted: int = 10) -> Story:
    """Evaluations that asked at these times, were admitted at one, and entered a lane in this order from 20 ms on."""
    story = Story()
    for number, at in enumerate(asked):
        name = f"default/{number}"
        story.program(number, str(number)).sent(name, number).started(name)
        story.say("entered", name, lane="warm.python", entry=f"{20 + number}-0", attempt=1)
        story.committed(name).seen(name, program=number)
        story.record(name, entry=f"{at}-0", queued_at=str(admitted))
    return story


def test_who_waits_enters_in_the_order_of_asking() -> None:
    assert entering(1, 2, 2, 3).broken() == {}


def test_one_that_overtook_is_named() -> None:
    assert ORDER in entering(1, 3, 2).broken()


def test_one_that_was_admitted_later_was_not_overtaken() -> None:
    """Another dispatcher had it."""
    assert entering(1, 3, 2, admitted=22).broken() == {}


def test_an_attempt_that_was_handed_back_stands_behind() -> None:
    story = entering(1, 2)

    assert story.say("entered", "default/0", lane="warm.python", entry="29-0", attempt=2).broken() == {}


def test_what_went_unseen_is_not_compared() -> None:
    """Its first entry may have passed while the server was away; then its second is seen as its first."""
    story = entering(1, 3, 2)
    (tried,) = [event for event in story.events if event.kind == "tried" and event.name == "default/2"]
    story.say("gap", "", at=tried.at + 0.001, lane="warm.python")

    assert story.broken() == {}


def test_what_is_left_is_named() -> None:
    assert REST in Story().whole().say("left", "", what="process 7").broken()


def test_an_error_in_a_log_is_named() -> None:
    assert ERRORS in Story().whole().say("error", "", log="warm-1.log", message="boom").broken()


def test_every_promise_is_shown_to_break() -> None:
    assert {promise for promise, _ in BROKEN} | {ORDER, RECOVERY, LAG, WAKE, REST, ERRORS} == set(RULES)
