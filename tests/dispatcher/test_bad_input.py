"""Whatever is added to ingress gets exactly one answer, and nobody else notices."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.intake import Intake
from dispatcher.policy import ClassPolicy, Policy, TenantPolicy, trusting_policy
from executor.keys import DISPATCHERS
from executor.outage import Outage
from executor.request import ResourceClass
from executor.settings import MIB, load
from executor.streams.ingress import Admission, Ingress, IngressEntry, Rejection
from executor.streams.server import Cell
from executor.tracing import Tracer
from tests.support.stack import Stack
from tests.support.wait import wait_until

Fields = dict[str, str | bytes]
BOM = "\ufeff"


def packed(**values: Any) -> bytes:
    """msgpack as a careless client would make it."""
    raw: bytes = msgpack.packb({"v": 1, **values}, unicode_errors="surrogatepass")
    return raw


BAD: list[tuple[str, Fields, str]] = [
    ("unknown field", {"code": "pass", "colour": "red"}, "colour"),
    ("an empty field name", {"code": "pass", "": ""}, "''"),
    ("no known field", {"hello": "world"}, "hello"),
    ("a field name that is not UTF-8", {"code": "pass", "\udcff": ""}, "\N{REPLACEMENT CHARACTER}"),
    ("unknown version", {"code": "pass", "v": "2"}, "v"),
    ("wrong type", {"code": "pass", "args": '{"a": 1}'}, "args"),
    ("not JSON", {"code": "pass", "env": "A=1"}, "env"),
    ("negative timeout", {"code": "pass", "timeout": "-1"}, "timeout"),
    ("timeout NaN", {"code": "pass", "timeout": "nan"}, "timeout"),
    ("timeout infinity", {"code": "pass", "timeout": "inf"}, "timeout"),
    ("timeout above the policy", {"code": "pass", "timeout": "3601"}, "timeout"),
    ("negative memory", {"code": "pass", "limits": '{"memory": -1}'}, "limits.memory"),
    ("memory above the policy", {"code": "pass", "limits": f'{{"memory": {1 << 40}}}'}, "limits.memory"),
    ("memory of 400 digits", {"code": "pass", "limits": f'{{"memory": {10**400}}}'}, "limits.memory"),
    ("attempts above the policy", {"code": "pass", "max_attempts": "11"}, "max_attempts"),
    ("code above the size limit", {"code": "#" * ((1 << 20) + 1)}, "code"),
    ("request above the size limit", {"code": "pass", "stdin": "#" * (8 << 20)}, "request"),
    ("neither code nor command", {"timeout": "1"}, "code"),
    ("code and command", {"code": "pass", "command": '["ls"]'}, "code"),
    ("NUL in code", {"code": "pass\0"}, "code"),
    ("code that is not UTF-8", {"code": b"\xff"}, "code"),
    ("lone surrogate in args", {"code": "pass", "args": '["\\ud800"]'}, "args"),
    ("lone surrogate in a name of env", {"code": "pass", "env": '{"\\ud800": "a"}'}, "env"),
    ("lone surrogate in metadata", {"code": "pass", "metadata": '{"a": "\\ud800"}'}, "metadata"),
    ("a number of 65 bits in metadata", {"code": "pass", "metadata": f'{{"a": {2**64}}}'}, "metadata"),
    ("metadata 900 levels deep", {"code": "pass", "metadata": '{"a":' + "[" * 900 + "]" * 900 + "}"}, "metadata"),
    ("metadata without a bottom", {"code": "pass", "metadata": "[" * 100_000}, "metadata"),
    ("BOM before an id", {"code": "pass", "id": BOM + "a"}, "id"),
    ("CRLF after an id", {"code": "pass", "id": "a\r\n"}, "id"),
    ("id with a slash", {"code": "pass", "id": "acme/a"}, "id"),
    ("id that is too long", {"code": "pass", "id": "a" * 129}, "id"),
    ("unknown template", {"code": "pass", "template": "cobol"}, "template"),
    ("CRLF after a template", {"code": "pass", "template": "python\r\n"}, "template"),
    ("unknown pool", {"code": "pass", "pool": "other"}, "pool"),
    ("reply_to elsewhere", {"code": "pass", "reply_to": "somebody:else"}, "reply_to"),
    ("reply_to is ingress", {"code": "pass", "reply_to": "executor:requests"}, "reply_to"),
    ("not supported yet", {"code": "pass", "priority": "1"}, "priority"),
    ("class tpu", {"code": "pass", "class": "tpu"}, "class"),
    ("isolation strong", {"code": "pass", "isolation": "strong"}, "isolation"),
    ("garbage as request", {"request": b"\xc1garbage"}, "request"),
    ("empty request", {"request": b""}, "request"),
    ("request without a bottom", {"request": b"\x91" * 100_000}, "request"),
    ("request and code", {"request": packed(code="pass"), "code": "pass"}, "code"),
    ("lone surrogate in request", {"request": packed(code="\ud800")}, "request"),
    ("bytes in metadata", {"request": packed(code="pass", metadata={"a": b"\xff"})}, "metadata"),
    ("class tpu by another name", {"request": packed(code="pass", resource_class="tpu")}, "resource_class"),
]


async def add(stack: Stack, fields: Fields, stream: str = "") -> str:
    """XADD, with names that are not UTF-8 where the table has them."""
    words = [
        word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")
        for pair in fields.items()
        for word in pair
    ]
    entry: bytes = await stack.redis.call("XADD", stream or stack.cell.keys.requests(), "*", *words)
    return entry.decode()


async def unanswered(stack: Stack, stream: str = "") -> int:
    """Entries that a dispatcher has read and not acknowledged."""
    summary = await stack.redis.call("XPENDING", stream or stack.cell.keys.requests(), DISPATCHERS)
    return int(summary[0])


async def ended(stack: Stack, evaluation_id: str) -> list[dict[str, str]]:
    """Entries of the results stream for an id."""
    return [entry for entry in await stack.stream(stack.cell.keys.results()) if entry["id"] == evaluation_id]


async def replies(stack: Stack, key: str, count: int) -> list[dict[str, str]]:
    """Entries of a reply stream, as soon as there are so many."""

    async def there() -> bool:
        return int(await stack.redis.call("XLEN", key)) >= count

    await wait_until(there, f"{count} replies on {key}")
    return await stack.stream(key)


async def queued(stack: Stack, evaluation_id: str) -> None:
    """Wait until an evaluation is in its lane."""

    async def there() -> bool:
        return (await stack.hash(stack.cell.keys.record("default", evaluation_id))).get("state") == "queued"

    await wait_until(there, f"{evaluation_id} is queued")


@pytest.mark.parametrize(("fields", "field"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
async def test_a_bad_request_is_rejected_by_its_field_and_the_next_is_served(
    stack: Stack, fields: Fields, field: str
) -> None:
    await stack.dispatcher()

    entry_id = await add(stack, fields)
    await stack.add(code="pass", id="next")

    result = await stack.result(entry_id)
    assert (result["id"], result["outcome"], result["field"]) == (entry_id, "rejected", field)
    assert result["error"].startswith(f"{field}: ")
    assert (result["exit_code"], result["stdout"], result["stderr"]) == ("", "", "")
    assert [entry["outcome"] for entry in await ended(stack, entry_id)] == ["rejected"]
    await queued(stack, "next")
    assert await unanswered(stack) == 0
    assert await stack.redis.call("EXISTS", stack.cell.keys.dead()) == 0


@pytest.mark.parametrize(("name", "evaluation_id"), [("code", "mine"), ("id", "")])
async def test_a_field_that_is_given_twice_is_rejected(stack: Stack, name: str, evaluation_id: str) -> None:
    """Which of the two is meant nobody knows; of two ids neither is the request's."""
    await stack.dispatcher()
    words = ("code", "pass", "id", "mine", name, "other")

    entry: bytes = await stack.redis.call("XADD", stack.cell.keys.requests(), "*", *words)

    result = await stack.result(evaluation_id or entry.decode())
    assert (result["outcome"], result["field"]) == ("rejected", name)
    assert "more than once" in result["error"]


async def test_good_and_bad_in_one_stream_each_get_their_own_answer(stack: Stack) -> None:
    """The whole table in one batch, with a good evaluation before, between and after."""
    await stack.dispatcher()
    await stack.worker()

    bad, good = [], [await stack.add(code="print(0)")]
    for number, (_, fields, field) in enumerate(BAD, 1):
        bad.append((await add(stack, fields), field))
        good.append(await stack.add(code=f"print({number})"))

    outputs = [(await stack.result(entry_id))["stdout"] for entry_id in good]
    rejected = [(await stack.result(entry_id)) for entry_id, _ in bad]
    assert outputs == [f"{number}\n" for number in range(len(good))]
    assert [(result["outcome"], result["field"]) for result in rejected] == [("rejected", field) for _, field in bad]
    assert await unanswered(stack) == 0
    assert len(await stack.stream(stack.cell.keys.results())) == len(good) + len(bad)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"code": "pass", "timeout": "-1"}, "timeout", id="plain"),
        pytest.param({"code": "pass", "colour": "red"}, "colour", id="unknown field"),
        pytest.param({"code": b"\xff"}, "code", id="not UTF-8"),
        pytest.param({"code": "pass", "timeout": "3601"}, "timeout", id="policy"),
    ],
)
async def test_a_bad_request_is_answered_under_its_id_and_on_its_reply_stream(
    stack: Stack, fields: Fields, field: str
) -> None:
    await stack.dispatcher()
    reply = stack.cell.keys.reply("me")

    await add(stack, {**fields, "id": "mine", "reply_to": reply})

    assert (await stack.result("mine"))["field"] == field
    assert [(entry["id"], entry["outcome"], entry["field"]) for entry in await stack.stream(reply)] == [
        ("mine", "rejected", field)
    ]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        pytest.param({"code": "pass", "timeout": -1}, "timeout", id="bad field"),
        pytest.param({"code": "pass\0"}, "code", id="NUL"),
        pytest.param({"code": "\ud800"}, "request", id="lone surrogate"),
        pytest.param({"code": "pass", "v": 2}, "v", id="newer version"),
        pytest.param({"code": "pass", "timeout": 3601}, "timeout", id="policy"),
    ],
)
async def test_a_bad_packed_request_is_answered_under_its_id_and_on_its_reply_stream(
    stack: Stack, values: dict[str, Any], field: str
) -> None:
    await stack.dispatcher()
    reply = stack.cell.keys.reply("me")

    await add(stack, {"request": packed(**values, id="mine", reply_to=reply)})

    assert (await stack.result("mine"))["field"] == field
    assert [(entry["id"], entry["field"]) for entry in await stack.stream(reply)] == [("mine", field)]
    assert await unanswered(stack) == 0


async def test_a_bad_id_is_answered_under_the_entrys_and_on_its_reply_stream(stack: Stack) -> None:
    await stack.dispatcher()
    reply = stack.cell.keys.reply("me")

    entry_id = await stack.add(code="pass", id="not good", reply_to=reply)

    assert (await stack.result(entry_id))["field"] == "id"
    assert [entry["id"] for entry in await stack.stream(reply)] == [entry_id]


async def test_a_reply_stream_of_a_foreign_type_is_named_and_left_alone(stack: Stack) -> None:
    await stack.dispatcher()
    reply = stack.cell.keys.reply("me")
    await stack.redis.call("SET", reply, "mine", "EX", 60)

    await stack.add(code="pass", id="good", reply_to=reply)
    await stack.add(code="pass", id="bad", timeout="-1", reply_to=reply)

    good, bad = await stack.result("good"), await stack.result("bad")
    assert (good["outcome"], good["field"]) == ("rejected", "reply_to")
    assert (bad["outcome"], bad["field"]) == ("rejected", "timeout")
    assert await stack.redis.call("GET", reply) == b"mine"
    assert await unanswered(stack) == 0
    assert await stack.redis.call("XLEN", stack.cell.keys.lane("warm.python")) == 0


async def test_a_duplicate_of_a_queued_evaluation_is_answered_with_its_state(stack: Stack) -> None:
    await stack.dispatcher()
    reply = stack.cell.keys.reply("second")
    await stack.add(code="print('first')", id="same")
    await queued(stack, "same")

    await stack.add(code="print('second')", id="same", reply_to=reply)

    assert await replies(stack, reply, 1) == [{"id": "same", "tenant": "default", "state": "queued", "duplicate": "1"}]
    assert await unanswered(stack) == 0
    assert await ended(stack, "same") == []
    assert await stack.redis.call("XLEN", stack.cell.keys.lane("warm.python")) == 1


@pytest.mark.parametrize(
    "second",
    [
        pytest.param({"code": "print('second')"}, id="good"),
        pytest.param({"code": "pass", "timeout": "-1"}, id="bad"),
    ],
)
async def test_a_duplicate_of_a_done_evaluation_is_answered_with_its_result(
    stack: Stack, second: dict[str, str]
) -> None:
    """Also when the second request is bad: an id has one result."""
    await stack.dispatcher()
    await stack.worker()
    reply = stack.cell.keys.reply("second")
    await stack.add(code="print('first')", id="same")
    first = await stack.result("same")

    await stack.add(id="same", reply_to=reply, **second)

    assert await replies(stack, reply, 1) == [{**first, "state": "done", "duplicate": "1"}]
    assert await stack.result("same") == first
    assert len(await ended(stack, "same")) == 1
    assert await unanswered(stack) == 0


async def test_a_duplicate_of_a_rejected_evaluation_is_answered_with_the_rejection(stack: Stack) -> None:
    await stack.dispatcher()
    reply = stack.cell.keys.reply("second")
    await stack.add(code="pass", id="same", timeout="-1")
    await stack.result("same")

    await stack.add(code="pass", id="same", reply_to=reply)

    (answer,) = await replies(stack, reply, 1)
    assert (answer["outcome"], answer["field"], answer["duplicate"]) == ("rejected", "timeout", "1")
    assert len(await ended(stack, "same")) == 1


async def test_a_duplicate_in_the_same_batch_runs_once(stack: Stack) -> None:
    await asyncio.gather(*(stack.add(code="print(1)", id="same") for _ in range(20)))
    await stack.dispatcher()
    await stack.worker()

    await stack.result("same")
    await stack.client.run("pass")

    assert len(await ended(stack, "same")) == 1
    assert await unanswered(stack) == 0


@pytest.mark.parametrize(
    ("kind", "timeout", "outcome"),
    [
        pytest.param("record", "1", "lost", id="record of a good request"),
        pytest.param("record", "-1", "rejected", id="record of a bad request"),
        pytest.param("result", "-1", "rejected", id="result of a bad request"),
    ],
)
async def test_a_request_that_cannot_be_answered_goes_to_the_dead_letters(
    stack: Stack, kind: str, timeout: str, outcome: str
) -> None:
    """A foreign value under the name of its record or result: set aside once, acknowledged, left alone.

    Whoever waits is told where that is possible, once, however often the id comes.
    """
    await stack.dispatcher()
    key = getattr(stack.cell.keys, kind)("default", "taken")
    await stack.redis.call("SET", key, "foreign", "EX", 60)

    reply = stack.cell.keys.reply("me")
    entry_id = await stack.add(code="pass", id="taken", timeout=timeout, reply_to=reply)
    await stack.add(code="pass", id="next")

    await queued(stack, "next")
    letters = await stack.stream(stack.cell.keys.dead())
    assert [(letter["id"], letter["tenant"], letter["stream"], letter["reason"]) for letter in letters] == [
        ("taken", "default", stack.cell.keys.requests(), "unanswerable")
    ]
    assert (letters[0]["attempts"], letters[0]["history"]) == ("0", "")
    assert key in letters[0]["error"]
    assert await stack.redis.call("GET", key) == b"foreign"
    assert await unanswered(stack) == 0, entry_id
    for entries in (await ended(stack, "taken"), await stack.stream(reply)):
        assert [(entry["id"], entry["outcome"]) for entry in entries] == [("taken", outcome)]
    await stack.add(code="pass", id="taken", timeout=timeout)
    await stack.add(code="pass", id="last")
    await queued(stack, "last")
    assert len(await ended(stack, "taken")) == 1


async def test_a_tenant_has_an_ingress_and_results_of_its_own(stack: Stack) -> None:
    """The same id in two tenants is two evaluations, each under its tenant's rules."""
    acme = stack.cell.keys.requests("acme")
    rules = {"default": TenantPolicy(trusted=True), "acme": TenantPolicy(trusted=True, max_timeout=5.0)}
    await stack.dispatcher(Policy(tenants=rules))
    await stack.worker()

    await stack.add(code="print('default')", id="same", timeout="6")
    await stack.add(acme, code="print('acme')", id="same")
    await stack.add(acme, code="pass", id="long", timeout="6")

    ours, theirs = await stack.result("same"), await stack.result("same", "acme")
    assert (ours["tenant"], ours["stdout"]) == ("default", "default\n")
    assert (theirs["tenant"], theirs["stdout"]) == ("acme", "acme\n")
    refused = await stack.result("long", "acme")
    assert (refused["tenant"], refused["outcome"], refused["field"]) == ("acme", "rejected", "timeout")
    assert await unanswered(stack, acme) == 0


async def test_a_tenant_without_a_policy_is_not_read(stack: Stack) -> None:
    await stack.dispatcher()
    stranger = stack.cell.keys.requests("stranger")
    await stack.add(stranger, code="pass", id="a")

    await stack.add(code="pass", id="next")

    await queued(stack, "next")
    assert await stack.redis.call("XLEN", stranger) == 1
    assert await stack.redis.call("XINFO", "GROUPS", stranger) == []


SETTINGS = load({"REDIS_URL": "redis://nowhere", "EXECUTOR_PREFIX": "executor"})
NAMES = ["id", "reply_to", "code", "command", "args", "env", "limits", "metadata", "timeout", "request", "stream", "v"]
texts = st.text() | st.sampled_from(["1", "-1", "nan", "[]", "{}", '["\\ud800"]', '{"\\ud800": 1}', '{"memory": 1e99}'])
entries = st.dictionaries(
    st.sampled_from(NAMES).map(str.encode) | st.binary(), st.binary() | texts.map(str.encode), max_size=5
)


@given(entries | entries.map(lambda fields: {b"code": b"pass", **fields}))
def test_a_decision_is_made_about_any_entry(fields: dict[bytes, bytes]) -> None:
    """And it can be sent: every word of it is bytes or encodes."""
    cell = Cell(SETTINGS.server.url, SETTINGS.server, SETTINGS.delivery)
    ingress = Ingress(cell, "unit", ["default"])
    intake = Intake(ingress, SETTINGS, trusting_policy(), Outage("unit"), Tracer("unit", "none"))

    decision = intake.decide(IngressEntry("executor:requests", "1-1", fields))

    assert isinstance(decision, Admission | Rejection)
    for word in ingress._command(decision):
        assert isinstance(word, bytes) or str(word).encode() is not None


def test_what_the_dispatcher_itself_fails_at_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    """No server gives such an entry; a request that ended the dispatcher would end the next one too."""
    cell = Cell(SETTINGS.server.url, SETTINGS.server, SETTINGS.delivery)
    ingress = Ingress(cell, "unit", ["default"])
    intake = Intake(ingress, SETTINGS, trusting_policy(), Outage("unit"), Tracer("unit", "none"))
    nothing: Any = None

    decision = intake.decide(IngressEntry("executor:requests", "1-1", {b"code": nothing}))

    assert isinstance(decision, Rejection)
    assert (decision.result.field, decision.to.id) == ("request", "1-1")
    assert "a request cannot be read" in caplog.text


async def test_more_than_the_class_has_is_rejected_with_the_class_that_has_it(stack: Stack) -> None:
    own: dict[ResourceClass, int] = {"cpu": 64 * MIB, "high-memory": 512 * MIB}
    classes = {name: ClassPolicy(memory=memory) for name, memory in own.items()}
    rules = TenantPolicy(classes=["cpu", "high-memory"])
    await stack.dispatcher(Policy(tenants={"default": rules}, classes=classes))

    result = await stack.client.run("pass", limits={"memory": 128 * MIB}, wait_timeout=20)

    assert (result.outcome, result.field) == ("rejected", "limits.memory")
    assert result.error.endswith("use class high-memory")
