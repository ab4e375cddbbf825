"""The checker is no use if it cannot fail: each promise about results, broken by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.checker import RULES, check
from tests.chaos.checker.case import Case
from tests.chaos.history import Event, History
from tests.chaos.programs import Program

NAME = "default/one"


class Story:
    """A history told by hand, an event each 10 ms."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.programs: list[Program] = []

    def program(self, number: int = 1, evaluation_id: str = "one", **facts: Any) -> Story:
        known: dict[str, Any] = {"allowed": frozenset({"succeeded"}), "prints": "1\n", "kind": "prints"}
        self.programs.append(Program(number, evaluation_id, "default", {}, **{**known, **facts}))
        return self

    def say(self, kind: str, name: str = NAME, at: float | None = None, **facts: Any) -> Story:
        self.events.append(Event(100 + len(self.events) / 100 if at is None else at, kind, name, facts))
        return self

    def sent(self, name: str = NAME, program: int = 1) -> Story:
        self.say("tried", name, program=program, not_before=None)
        return self.say("accepted", name, program=program)

    def started(self, name: str = NAME, pid: int = 7, wall: float = 1e9) -> Story:
        return self.say("started", name, pid=pid, wall=wall)

    def committed(self, name: str = NAME, outcome: str = "succeeded", attempt: int = 1, **facts: Any) -> Story:
        known = {"worker": "w", "error": "", "stdout": "1\n", "entry": "1-1"}
        return self.say("committed", name, **{**known, "outcome": outcome, "attempt": attempt, **facts})

    def seen(self, name: str = NAME, outcome: str = "succeeded", attempt: int = 1, **facts: Any) -> Story:
        known = {"program": 1, "of": name.partition("/")[2], "stdout": "1\n"}
        return self.say("seen", name, **{**known, "outcome": outcome, "attempt": attempt, **facts})

    def record(self, name: str = NAME, **facts: Any) -> Story:
        known = {
            "state": "done",
            "attempt": "1",
            "duplicate_of": None,
            "queued_at": "5",
            "priority": "2",
            "entry": "1-1",
        }
        return self.say("record", name, **{**known, **facts})

    def whole(self) -> Story:
        """One evaluation as it should be."""
        return self.program().sent().started().committed().seen().record().say("reply", duplicate=False, stream="r")

    def broken(self) -> dict[str, list[str]]:
        """Texts by promise."""
        found: dict[str, list[str]] = {}
        for one in check(Case(History(self.events), self.programs)):
            found.setdefault(one.promise, []).append(one.text)
        return found


def test_a_story_as_it_should_be_breaks_nothing() -> None:
    assert Story().whole().broken() == {}


def _lost() -> Story:
    return Story().program().sent().started().seen().record(state="running")


def _vanished() -> Story:
    return Story().whole().say("vanished", program=1)


def _twice() -> Story:
    return Story().whole().committed()


def _key_used_twice() -> Story:
    story = Story().program(once="k").program(2, "two", once="k").sent().sent("default/two", 2)
    return story.committed().committed("default/two")


def _unasked() -> Story:
    return Story().whole().committed("default/stranger")


def _never_told() -> Story:
    return Story().program().sent().started().committed().record()


def _told_otherwise() -> Story:
    return Story().program().sent().started().committed().seen(stdout="2\n").record()


def _replied_twice() -> Story:
    return Story().whole().say("reply", duplicate=False, stream="r")


def _only_duplicates() -> Story:
    return Story().program().sent().started().committed().seen().record().say("reply", duplicate=True, stream="r")


def _lost_without_a_letter() -> Story:
    story = Story().program(allowed=frozenset({"lost"})).sent().started().committed(outcome="lost")
    return story.seen(outcome="lost").record()


def _letter_of_the_living() -> Story:
    return Story().whole().say("letter", reason="attempts")


def _refused_and_committed() -> Story:
    return Story().whole().say("refused", attempt=1)


def _not_the_last_attempt() -> Story:
    return Story().program().sent().started().committed().seen().record(attempt="2")


def _not_done() -> Story:
    return Story().program().sent().started().committed().seen().record(state="queued")


def _wrong_outcome() -> Story:
    return Story().program().sent().started().committed(outcome="failed").seen(outcome="failed").record()


def _killed_by_nobody() -> Story:
    story = Story().program().sent().started(pid=7).committed(outcome="killed").seen(outcome="killed").record()
    return story.say("fault", "", fault="child-kill", number=1, began=100, ended=100, pids=[8], detail="")


def _output_of_another() -> Story:
    return Story().program().sent().started().committed(stdout="2\n").seen(stdout="2\n").record()


def _ran_once_too_often() -> Story:
    return Story().whole().started()


def _succeeded_unrun() -> Story:
    return Story().program().sent().committed().seen().record()


def _again_without_a_cause() -> Story:
    return Story().program().sent().started().started().committed(attempt=2).seen(attempt=2).record(attempt="2")


def _not_cancelled() -> Story:
    return Story().whole().say("cancel", answer="cancelled", more="")


def _not_done_so() -> Story:
    return Story().whole().say("cancel", answer="done", more="failed")


def _unknown_to_cancel() -> Story:
    return Story().whole().say("cancel", answer="unknown", more="")


def _too_soon() -> Story:
    story = Story().program().say("tried", program=1, not_before=1e9 + 1).say("accepted", program=1)
    return story.started(wall=1e9).committed().seen().record()


BROKEN: list[tuple[str, Callable[[], Story]]] = [
    ("every accepted evaluation has a result", _lost),
    ("nothing vanishes but in a loss window", _vanished),
    ("no evaluation has two results", _twice),
    ("one result for an idempotency key", _key_used_twice),
    ("no result that nobody asked for", _unasked),
    ("every wait returns", _never_told),
    ("callers see what is committed", _told_otherwise),
    ("one reply beside duplicates", _replied_twice),
    ("one reply beside duplicates", _only_duplicates),
    ("one dead letter for what is lost", _lost_without_a_letter),
    ("one dead letter for what is lost", _letter_of_the_living),
    ("no result of a refused generation", _refused_and_committed),
    ("no result of a refused generation", _not_the_last_attempt),
    ("no result of a refused generation", _not_done),
    ("results are the program's own", _wrong_outcome),
    ("results are the program's own", _killed_by_nobody),
    ("results are the program's own", _output_of_another),
    ("one start for an attempt", _ran_once_too_often),
    ("one start for an attempt", _succeeded_unrun),
    ("a further attempt has a cause", _again_without_a_cause),
    ("answers to cancels are true", _not_cancelled),
    ("answers to cancels are true", _not_done_so),
    ("answers to cancels are true", _unknown_to_cancel),
    ("nothing starts before its time", _too_soon),
]


@pytest.mark.parametrize(("promise", "tell"), BROKEN, ids=lambda part: getattr(part, "__name__", ""))
def test_a_broken_promise_is_named(promise: str, tell: Callable[[], Story]) -> None:
    assert promise in RULES
    assert promise in tell().broken()


def failed_over(story: Story, began: float) -> dict[str, bool]:
    """Promises broken by a story in which a request vanished after a failover, and whether that is told apart."""
    story.say("vanished", at=110, program=1)
    story.say("accepted", at=111, program=1)
    story.say(
        "fault",
        "",
        at=began + 2,
        fault="failover",
        undoes=True,
        number=1,
        began=began,
        ended=began + 2,
        pids=[],
        detail="",
    )
    return {one.promise: one.undone for one in check(Case(History(story.events), story.programs))}


def test_what_a_failover_undid_is_told_apart() -> None:
    assert failed_over(Story().whole().committed(), 100.2) == {"no evaluation has two results": True}


def test_what_was_written_before_a_failover_s_loss_window_is_not_undone() -> None:
    broken = failed_over(Story().whole().committed(), 105)

    assert broken == {"nothing vanishes but in a loss window": False, "no evaluation has two results": False}


def test_what_a_replica_had_does_not_vanish() -> None:
    story = Story().whole()
    story.say("accepted", program=1, replicated=True)

    assert failed_over(story, 100.2) == {"nothing vanishes but in a loss window": False}


def test_the_second_use_of_a_key_is_answered_with_the_first() -> None:
    story = Story().program(once="k", prints=None).program(2, "two", once="k", prints=None)
    story.sent().sent("default/two", 2).started().committed().seen()
    story.seen("default/two", program=2, of="one").record().record("default/two", state="duplicate", duplicate_of="one")

    assert story.broken() == {}


def test_what_a_fault_shot_may_end_as_killed() -> None:
    story = Story().program().sent().started(pid=7).committed(outcome="killed").seen(outcome="killed").record()
    story.say("fault", "", fault="child-kill", number=1, began=100, ended=100, pids=[7], detail="")

    assert story.broken() == {}


def test_what_ended_while_it_waited_is_nobody_s_stale_commit() -> None:
    story = Story().program(allowed=frozenset({"timed_out"})).sent().started().say("refused", attempt=1)
    story.committed(outcome="timed_out", worker="").seen(outcome="timed_out").record()

    assert story.broken() == {}


def test_a_result_of_a_request_whose_reply_was_lost_is_no_stranger() -> None:
    story = Story().whole().say("tried", "default/number-1", program=1, not_before=None)

    assert story.committed("default/of-the-unanswered-xadd").broken() == {}


def test_a_violation_comes_with_its_history() -> None:
    (violation,) = [one for one in check(Case(History(_twice().events), _twice().programs)) if "two" in one.promise]

    assert violation.about == NAME
    assert sum("committed" in line for line in violation.excerpt) == 2
