"""Every accepted evaluation has exactly one result, and everybody hears the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.chaos.checker.case import Case, Rule

Found = Iterator[tuple[str, str]]


def nothing_lost(case: Case) -> Found:
    """What was accepted has a result; of those that share a key, the first one."""
    for name in sorted(case.accepted):
        if case.meant(name) not in case.committed:
            state = case.records[name].facts["state"] if name in case.records else "not looked for"
            yield name, f"accepted and without a result; its record says {state}"


def nothing_vanishes(case: Case) -> Found:
    """What was accepted stays known; but for what was not saved yet in a crash that may take it."""
    accepted = case.history.by_name("accepted")
    for event in case.history.of("vanished"):
        last = max((one for one in accepted.get(event.name, []) if one.at < event.at), key=lambda one: one.at)
        if last.facts.get("replicated"):
            yield event.name, "accepted, held by a replica, and not known any more"
        elif not any(begin <= last.at <= end for begin, end in case.windows):
            yield event.name, "accepted outside of a loss window, and not known any more"


def nothing_twice(case: Case) -> Found:
    """No evaluation has two results."""
    for name, events in case.committed.items():
        if len(events) > 1:
            yield name, f"{len(events)} results: {', '.join(event.facts['outcome'] for event in events)}"


def once_by_key(case: Case) -> Found:
    """Of requests that share an idempotency key one has a result."""
    ended: dict[tuple[str, str], list[str]] = {}
    for name in case.committed:
        program = case.program_of.get(name)
        if program is not None and program.once:
            ended.setdefault((program.tenant, program.once), []).append(name)
    for names in ended.values():
        if len(names) > 1:
            yield names[1], f"its key was used before, for {names[0]}, and both have results"


def nothing_unasked(case: Case) -> Found:
    """No result is of something that nobody sent; one whose XADD went unanswered may have been sent twice."""
    tried = Counter(event.facts["program"] for event in case.history.of("tried"))
    accepted = Counter(event.facts["program"] for event in case.history.of("accepted"))
    unanswered = sum((tried - accepted).values())
    strangers = [name for name in case.committed if name not in case.program_of]
    if len(strangers) > unanswered:
        for name in strangers:
            yield name, f"nobody is known to have sent it; {unanswered} requests went unanswered"


def all_seen(case: Case) -> Found:
    """Whoever waited was answered."""
    seen = {event.facts["program"] for event in case.history.of("seen")}
    for number, program in case.programs.items():
        if number not in seen:
            name = next((one for one, other in case.program_of.items() if other is program), "")
            yield name, f"the wait for program {number} ({program.kind}) did not return"


def seen_is_committed(case: Case) -> Found:
    """What a caller saw is what is committed, word for word."""
    for event in case.history.of("seen"):
        tenant = event.name.partition("/")[0]
        results = case.committed.get(f"{tenant}/{event.facts['of']}", [])
        if not any(_same(event.facts, result.facts) for result in results):
            told = [(one.facts["outcome"], one.facts["attempt"]) for one in results]
            saw = (event.facts["outcome"], event.facts["attempt"], event.facts["stdout"])
            yield event.name, f"its caller saw {saw}, committed is {told}"


def one_reply(case: Case) -> Found:
    """A reply stream holds one reply for an evaluation, beside those that say that they are duplicates."""
    replies = Counter(event.name for event in case.history.of("reply") if not event.facts["duplicate"])
    for name, count in replies.items():
        if count > 1:
            yield name, f"{count} replies that do not say duplicate"
    wanting = {event.name for event in case.history.of("reply")}
    for name in wanting - set(replies):
        if case.meant(name) == name and name in case.committed:
            yield name, "only replies that say duplicate"


def letters_for_the_lost(case: Case) -> Found:
    """Each lost evaluation is one dead letter, and no other is."""
    letters = Counter(event.name for event in case.history.of("letter"))
    lost = {name for name, events in case.committed.items() if any(one.facts["outcome"] == "lost" for one in events)}
    for name in sorted(lost | set(letters)):
        if letters[name] != (name in lost):
            yield name, f"{letters[name]} dead letters, {'lost' if name in lost else 'not lost'}"


def _same(seen: Mapping[str, object], committed: Mapping[str, object]) -> bool:
    facts = ("outcome", "attempt", *(["stdout"] if "stdout" in committed else []))
    return all(seen[name] == committed[name] for name in facts)


RULES: dict[str, Rule] = {
    "every accepted evaluation has a result": nothing_lost,
    "nothing vanishes but in a loss window": nothing_vanishes,
    "no evaluation has two results": nothing_twice,
    "one result for an idempotency key": once_by_key,
    "no result that nobody asked for": nothing_unasked,
    "every wait returns": all_seen,
    "callers see what is committed": seen_is_committed,
    "one reply beside duplicates": one_reply,
    "one dead letter for what is lost": letters_for_the_lost,
}
