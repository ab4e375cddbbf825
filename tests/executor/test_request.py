"""The edge: every bad request is refused with the name of its field, and nothing but InvalidField comes out."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor import codec
from executor.errors import InvalidField
from executor.request import NOT_SUPPORTED_YET, EvaluationRequest, from_map, parse_entry, peek

MAX_BYTES = 1 << 20
BOM = "\ufeff"
NUL = "\0"


def parse(fields: dict[str, str | bytes]) -> EvaluationRequest:
    """A plain entry."""
    raw = {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in fields.items()}
    return parse_entry(raw, MAX_BYTES)


def packed(values: Any) -> bytes:
    """The msgpack of values that may be no request at all."""
    raw: bytes = msgpack.packb(values, unicode_errors="surrogatepass")
    return raw


def parse_packed(values: Any) -> EvaluationRequest:
    """An entry with the one field `request`."""
    return parse_entry({b"request": packed(values)}, MAX_BYTES)


PLAIN: list[tuple[str, dict[str, str | bytes], str]] = [
    ("unknown field", {"code": "pass", "colour": "red"}, "colour"),
    ("the Python name of class", {"code": "pass", "resource_class": "cpu"}, "resource_class"),
    ("a field in capitals", {"CODE": "pass"}, "CODE"),
    ("unknown version", {"code": "pass", "v": "2"}, "v"),
    ("version 0", {"code": "pass", "v": "0"}, "v"),
    ("version without number", {"code": "pass", "v": "one"}, "v"),
    ("neither code nor command", {"id": "a"}, "code"),
    ("code and command", {"code": "pass", "command": '["ls"]'}, "code"),
    ("NUL in code", {"code": "pass" + NUL}, "code"),
    ("code that is not UTF-8", {"code": b"pass # \xff"}, "code"),
    ("a surrogate as bytes in code", {"code": b"'\xed\xa0\x80'"}, "code"),
    ("command that is not JSON", {"command": "ls"}, "command"),
    ("command that is text", {"command": '"ls"'}, "command"),
    ("command without words", {"command": "[]"}, "command"),
    ("command with a number", {"command": '["sleep", 1]'}, "command.1"),
    ("NUL in command", {"command": '["a\\u0000"]'}, "command"),
    ("lone surrogate in command", {"command": '["\\ud800"]'}, "command"),
    ("args that are not JSON", {"code": "pass", "args": "a b"}, "args"),
    ("args that are a map", {"code": "pass", "args": "{}"}, "args"),
    ("NUL in args", {"code": "pass", "args": '["\\u0000"]'}, "args"),
    ("lone surrogate in args", {"code": "pass", "args": '["\\ud800"]'}, "args"),
    ("args without a bottom", {"code": "pass", "args": "[" * 100_000}, "args"),
    ("args that are not UTF-8", {"code": "pass", "args": b'["\xff"]'}, "args"),
    ("BOM before JSON", {"code": "pass", "args": BOM + "[]"}, "args"),
    ("env that is a list", {"code": "pass", "env": "[]"}, "env"),
    ("env with a number", {"code": "pass", "env": '{"A": 1}'}, "env.A"),
    ("env with = in a name", {"code": "pass", "env": '{"A=B": ""}'}, "env"),
    ("env with an empty name", {"code": "pass", "env": '{"": ""}'}, "env"),
    ("NUL in env", {"code": "pass", "env": '{"A": "\\u0000"}'}, "env"),
    ("lone surrogate in env", {"code": "pass", "env": '{"A": "\\udfff"}'}, "env"),
    ("lone surrogate in a name of env", {"code": "pass", "env": '{"\\ud800": "a"}'}, "env"),
    ("negative timeout", {"code": "pass", "timeout": "-1"}, "timeout"),
    ("timeout 0", {"code": "pass", "timeout": "0"}, "timeout"),
    ("timeout NaN", {"code": "pass", "timeout": "NaN"}, "timeout"),
    ("timeout infinity", {"code": "pass", "timeout": "inf"}, "timeout"),
    ("timeout too large for a float", {"code": "pass", "timeout": "1e999"}, "timeout"),
    ("timeout in words", {"code": "pass", "timeout": "ten"}, "timeout"),
    ("empty timeout", {"code": "pass", "timeout": ""}, "timeout"),
    ("timeout with underscore", {"code": "pass", "timeout": "1_0"}, "timeout"),
    ("timeout in other digits", {"code": "pass", "timeout": "\u0661"}, "timeout"),
    ("BOM before a number", {"code": "pass", "timeout": BOM + "5"}, "timeout"),
    ("CRLF after a number", {"code": "pass", "timeout": "5\r\n"}, "timeout"),
    ("NUL in a number", {"code": "pass", "timeout": "5" + NUL}, "timeout"),
    ("expected_duration 0", {"code": "pass", "expected_duration": "0"}, "expected_duration"),
    ("expected_duration NaN", {"code": "pass", "expected_duration": "nan"}, "expected_duration"),
    ("max_attempts 0", {"code": "pass", "max_attempts": "0"}, "max_attempts"),
    ("half an attempt", {"code": "pass", "max_attempts": "1.5"}, "max_attempts"),
    ("max_attempts 101", {"code": "pass", "max_attempts": "101"}, "max_attempts"),
    ("limits that are a list", {"code": "pass", "limits": "[]"}, "limits"),
    ("limits that are not JSON", {"code": "pass", "limits": "{"}, "limits"),
    ("an unknown limit", {"code": "pass", "limits": '{"heat": 1}'}, "limits.heat"),
    ("negative cpu", {"code": "pass", "limits": '{"cpu": -1}'}, "limits.cpu"),
    ("cpu NaN", {"code": "pass", "limits": '{"cpu": NaN}'}, "limits"),
    ("cpu -Infinity", {"code": "pass", "limits": '{"cpu": -Infinity}'}, "limits"),
    ("cpu too large for a float", {"code": "pass", "limits": '{"cpu": 1e999}'}, "limits.cpu"),
    ("cpu true", {"code": "pass", "limits": '{"cpu": true}'}, "limits.cpu"),
    ("memory 0", {"code": "pass", "limits": '{"memory": 0}'}, "limits.memory"),
    ("negative memory", {"code": "pass", "limits": '{"memory": -1}'}, "limits.memory"),
    ("memory as text", {"code": "pass", "limits": '{"memory": "1G"}'}, "limits.memory"),
    ("memory of 400 digits", {"code": "pass", "limits": f'{{"memory": {10**400}}}'}, "limits.memory"),
    ("processes of 400 digits", {"code": "pass", "limits": f'{{"processes": {10**400}}}'}, "limits.processes"),
    ("processes 0", {"code": "pass", "limits": '{"processes": 0}'}, "limits.processes"),
    ("negative output", {"code": "pass", "limits": '{"output": -1}'}, "limits.output"),
    ("limits.disk", {"code": "pass", "limits": '{"disk": 1}'}, "limits.disk"),
    ("limits.network", {"code": "pass", "limits": '{"network": false}'}, "limits.network"),
    ("empty id", {"code": "pass", "id": ""}, "id"),
    ("id with a space", {"code": "pass", "id": "a b"}, "id"),
    ("id with a slash", {"code": "pass", "id": "acme/a"}, "id"),
    ("id of 129 characters", {"code": "pass", "id": "a" * 129}, "id"),
    ("BOM before an id", {"code": "pass", "id": BOM + "a"}, "id"),
    ("CRLF after an id", {"code": "pass", "id": "a\r\n"}, "id"),
    ("line end after an id", {"code": "pass", "id": "a\n"}, "id"),
    ("NUL in an id", {"code": "pass", "id": "a" + NUL}, "id"),
    ("id that is not UTF-8", {"code": "pass", "id": b"\xff"}, "id"),
    ("BOM before a template", {"code": "pass", "template": BOM + "python"}, "template"),
    ("CRLF after a template", {"code": "pass", "template": "python\r\n"}, "template"),
    ("line end after a pool", {"code": "pass", "pool": "python\n"}, "pool"),
    ("reply_to that is not UTF-8", {"code": "pass", "reply_to": b"\xff"}, "reply_to"),
    ("an unknown class", {"code": "pass", "class": "tpu"}, "class"),
    ("isolation contained", {"code": "pass", "isolation": "contained"}, "isolation"),
    ("isolation strong", {"code": "pass", "isolation": "strong"}, "isolation"),
    ("an unknown isolation", {"code": "pass", "isolation": "splendid"}, "isolation"),
    ("stream in words", {"code": "pass", "stream": "yes"}, "stream"),
    ("traceparent of another shape", {"code": "pass", "traceparent": "00-ab-cd-01"}, "traceparent"),
    ("metadata that is a list", {"code": "pass", "metadata": "[]"}, "metadata"),
    ("metadata with NaN", {"code": "pass", "metadata": '{"a": NaN}'}, "metadata"),
    ("metadata with 1e999", {"code": "pass", "metadata": '{"a": 1e999}'}, "metadata"),
    ("metadata with 65 bits", {"code": "pass", "metadata": f'{{"a": {2**64}}}'}, "metadata"),
    ("metadata with 5000 digits", {"code": "pass", "metadata": '{"a": ' + "1" * 5000 + "}"}, "metadata"),
    ("lone surrogate in metadata", {"code": "pass", "metadata": '{"a": ["\\ud800"]}'}, "metadata"),
    ("lone surrogate in a name of metadata", {"code": "pass", "metadata": '{"\\ud800": 1}'}, "metadata"),
    ("metadata 900 levels deep", {"code": "pass", "metadata": '{"a": ' + "[" * 900 + "]" * 900 + "}"}, "metadata"),
    ("metadata without a bottom", {"code": "pass", "metadata": '{"a": ' + "[" * 100_000}, "metadata"),
    ("request and code", {"request": packed({"v": 1, "code": "pass"}), "code": "pass"}, "code"),
    ("request and id", {"id": "a", "request": packed({"v": 1, "code": "pass"})}, "id"),
]

PACKED: list[tuple[str, Any, str]] = [
    ("no map", [1], "request"),
    ("no version", {"code": "pass"}, "v"),
    ("unknown version", {"v": 2, "code": "pass"}, "v"),
    ("version true", {"v": True, "code": "pass"}, "v"),
    ("neither code nor command", {"v": 1}, "code"),
    ("code and command", {"v": 1, "code": "pass", "command": ["ls"]}, "code"),
    ("code null", {"v": 1, "code": None}, "code"),
    ("code of bytes", {"v": 1, "code": b"pass"}, "code"),
    ("NUL in code", {"v": 1, "code": NUL}, "code"),
    ("lone surrogate in code", {"v": 1, "code": "\ud800"}, "request"),
    ("lone surrogate in a name", {"v": 1, "code": "pass", "\ud800": 1}, "request"),
    ("a number as name", {"v": 1, "code": "pass", 7: 1}, "request"),
    ("timeout as text", {"v": 1, "code": "pass", "timeout": "5"}, "timeout"),
    ("timeout true", {"v": 1, "code": "pass", "timeout": True}, "timeout"),
    ("timeout NaN", {"v": 1, "code": "pass", "timeout": float("nan")}, "timeout"),
    ("timeout infinity", {"v": 1, "code": "pass", "timeout": float("inf")}, "timeout"),
    ("timeout 0", {"v": 1, "code": "pass", "timeout": 0}, "timeout"),
    ("negative timeout", {"v": 1, "code": "pass", "timeout": -0.5}, "timeout"),
    ("cpu NaN", {"v": 1, "code": "pass", "limits": {"cpu": float("nan")}}, "limits.cpu"),
    ("cpu infinity", {"v": 1, "code": "pass", "limits": {"cpu": float("inf")}}, "limits.cpu"),
    ("memory as float", {"v": 1, "code": "pass", "limits": {"memory": 1e9}}, "limits.memory"),
    ("memory of 64 bits", {"v": 1, "code": "pass", "limits": {"memory": 2**64 - 1}}, "limits.memory"),
    ("an unknown limit", {"v": 1, "code": "pass", "limits": {"heat": 1}}, "limits.heat"),
    ("args as text", {"v": 1, "code": "pass", "args": "a b"}, "args"),
    ("args with bytes", {"v": 1, "code": "pass", "args": [b"a"]}, "args.0"),
    ("stdin as number", {"v": 1, "code": "pass", "stdin": 7}, "stdin"),
    ("stream as number", {"v": 1, "code": "pass", "stream": 1}, "stream"),
    ("id as number", {"v": 1, "code": "pass", "id": 7}, "id"),
    ("class tpu by its Python name", {"v": 1, "code": "pass", "resource_class": "tpu"}, "resource_class"),
    ("metadata with bytes", {"v": 1, "code": "pass", "metadata": {"a": b"\xff"}}, "metadata"),
    ("metadata with a name of bytes", {"v": 1, "code": "pass", "metadata": {"a": {b"b": 1}}}, "metadata"),
    ("metadata with NaN", {"v": 1, "code": "pass", "metadata": {"a": float("nan")}}, "metadata"),
    ("metadata with a date", {"v": 1, "code": "pass", "metadata": {"a": msgpack.Timestamp(1)}}, "metadata"),
    ("metadata with an extension", {"v": 1, "code": "pass", "metadata": {"a": msgpack.ExtType(5, b"")}}, "metadata"),
]


@pytest.mark.parametrize(("fields", "field"), [pytest.param(*row[1:], id=row[0]) for row in PLAIN])
def test_a_bad_plain_entry_names_its_field(fields: dict[str, str | bytes], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(fields)

    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert caught.value.reason


@pytest.mark.parametrize(("values", "field"), [pytest.param(*row[1:], id=row[0]) for row in PACKED])
def test_a_bad_packed_entry_names_its_field(values: Any, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_packed(values)

    assert caught.value.field == field


@pytest.mark.parametrize("name", NOT_SUPPORTED_YET)
def test_a_field_of_a_later_feature_is_refused_in_both_spellings(name: str) -> None:
    raw = packed({"v": 1, "code": "pass", name: 1})
    for fields in ({b"code": b"pass", name.encode(): b"1"}, {b"request": raw}):
        with pytest.raises(InvalidField, match="not supported yet") as caught:
            parse_entry(fields, MAX_BYTES)
        assert caught.value.field == name


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"garbage", b"\x81\xa1v", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000])
def test_bytes_that_are_no_msgpack_name_request(raw: bytes) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_entry({b"request": raw}, MAX_BYTES)

    assert caught.value.field == "request"


def test_an_empty_entry_names_code() -> None:
    with pytest.raises(InvalidField) as caught:
        parse_entry({}, MAX_BYTES)

    assert caught.value.field == "code"


@pytest.mark.parametrize("name", [b"code", b"request", b"anything"])
def test_a_request_above_the_size_limit_is_refused_before_it_is_read(name: bytes) -> None:
    with pytest.raises(InvalidField, match="1001 bytes, at most 1000") as caught:
        parse_entry({name: b"x" * (1001 - len(name))}, 1000)

    assert caught.value.field == "request"


def test_a_request_of_exactly_the_size_limit_is_taken() -> None:
    assert parse_entry({b"code": b"#" * 996}, 1000).code == "#" * 996


def test_a_name_is_reported_in_readable_length() -> None:
    for fields in ({b"x" * 9999: b""}, {b"request": b"", b"x" * 9999: b""}):
        with pytest.raises(InvalidField) as caught:
            parse_entry(fields, MAX_BYTES)
        assert caught.value.field == "x" * 128


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(BOM + "print(1)\n", id="BOM"),
        pytest.param("print(1)\r\nprint(2)\r\n", id="CRLF"),
        pytest.param("", id="empty"),
        pytest.param("print('\U0001f600')", id="beyond the BMP"),
    ],
)
def test_code_is_taken_as_python_takes_it(code: str) -> None:
    assert parse({"code": code}).code == code
    assert parse_packed({"v": 1, "code": code}).code == code


def test_both_spellings_give_the_same_request() -> None:
    values: dict[str, Any] = {
        "v": 1,
        "id": "a.b_c:d-1",
        "code": "pass",
        "stdin": "in",
        "args": ["a"],
        "env": {"A": "b"},
        "template": "python",
        "pool": "python",
        "timeout": 2.5,
        "limits": {"cpu": 1.0, "memory": 1 << 28, "processes": 4, "output": 2048},
        "expected_duration": 1.0,
        "class": "cpu",
        "isolation": "process",
        "max_attempts": 2,
        "reply_to": "executor:reply:me",
        "stream": True,
        "metadata": {"a": [1, None, {"b": 2.5}], "c": "é"},
        "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
    }
    plain: dict[str, str | bytes] = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()
    }

    assert parse(plain) == parse_packed(values) == from_map(values)
    assert from_map(values).to_map() == values


def test_stdin_that_is_not_text_stays_bytes() -> None:
    assert parse({"code": "pass", "stdin": b"\xff"}).stdin == b"\xff"
    assert parse_packed({"v": 1, "code": "pass", "stdin": b"\xff"}).stdin == b"\xff"


def test_fields_that_a_newer_client_adds_are_ignored_when_packed() -> None:
    request = parse_packed({"v": 1, "code": "pass", "colour": "red", "shape": {"round": [1]}})

    assert request == from_map({"v": 1, "code": "pass"})


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        pytest.param({b"id": b"a", b"reply_to": b"r", b"timeout": b"-1"}, ("a", "r"), id="plain"),
        pytest.param({b"code": b""}, ("", ""), id="plain without"),
        pytest.param({b"id": b"\xff"}, ("\xff", ""), id="not UTF-8"),
        pytest.param({b"request": packed({"v": 1, "id": "a", "reply_to": "r"})}, ("a", "r"), id="packed"),
        pytest.param({b"request": packed({"v": 9, "id": "a", "reply_to": "r"})}, ("a", "r"), id="newer version"),
        pytest.param({b"request": packed({"v": 1, "id": "a", "code": "\ud800"})}, ("a", ""), id="lone surrogate"),
        pytest.param({b"request": packed({"v": 1, "id": 7, "reply_to": []})}, ("", ""), id="wrong types"),
        pytest.param({b"request": packed([1])}, ("", ""), id="no map"),
        pytest.param({b"request": b"\xc1"}, ("", ""), id="garbage"),
    ],
)
def test_a_peek_finds_whom_to_answer(fields: dict[bytes, bytes], found: tuple[str, str]) -> None:
    assert peek(fields) == found


NAMES = [name.encode() for name in EvaluationRequest.model_fields] + [
    b"class",
    b"request",
    *map(str.encode, NOT_SUPPORTED_YET),
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(["cpu", "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)
surrogates = st.text(st.characters() | st.characters(categories=["Cs"]))
json_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | surrogates,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(surrogates, inner, max_size=4),
    max_leaves=12,
)
spellings = st.binary() | st.text().map(str.encode) | json_anything.map(lambda value: json.dumps(value).encode())
plain_entries = st.dictionaries(st.sampled_from(NAMES) | st.binary(), spellings, max_size=4)
packed_entries = st.dictionaries(
    st.sampled_from([name.decode() for name in NAMES]) | st.text(), anything, max_size=5
).map(lambda values: {b"request": packed({"v": 1, **values})})


def parsed(fields: dict[bytes, bytes]) -> EvaluationRequest | InvalidField:
    """Whatever comes of an entry; everything else is an error of the test."""
    peek(fields)
    try:
        return parse_entry(fields, MAX_BYTES)
    except InvalidField as error:
        return error


@given(plain_entries | packed_entries | plain_entries.map(lambda fields: {b"code": b"pass", **fields}))
def test_any_entry_is_a_request_or_an_invalid_field(fields: dict[bytes, bytes]) -> None:
    """A request can be packed again; a refusal has a name and can be sent."""
    found = parsed(fields)

    if isinstance(found, InvalidField):
        assert found.field
        assert str(found).encode()
    else:
        assert from_map(codec.decode(codec.encode(found.to_map()))) == found


@given(st.integers(1, 3000), st.sampled_from(["args", "env", "metadata", "limits", "command"]))
def test_nesting_of_any_depth_is_a_request_or_an_invalid_field(depth: int, name: str) -> None:
    text = '{"a":' * depth + "1" + "}" * depth
    raw = b"\x83\xa1v\x01\xa4code\xa0" + msgpack.packb(name) + b"\x81\xa1a" * depth + b"\x01"
    for fields in ({b"code": b"", name.encode(): text.encode()}, {b"request": raw}):
        found = parsed(fields)
        if isinstance(found, InvalidField):
            assert found.field.partition(".")[0] in (name, "request")
        else:
            assert codec.encode(found.to_map())


@pytest.mark.parametrize("depth", [64, 65])
def test_metadata_is_taken_to_a_stated_depth(depth: int) -> None:
    found = parsed({b"code": b"", b"metadata": b'{"a":' * depth + b"1" + b"}" * depth})

    assert isinstance(found, InvalidField) == (depth > 64)


def test_metadata_comes_out_as_it_came() -> None:
    metadata = {"none": None, "list": [None, {"none": None}], "largest": 2**64 - 1, "least": -(2**63), "": ""}

    request = from_map({"code": "", "metadata": metadata})

    assert request.metadata == metadata
    assert request.to_map()["metadata"] == metadata
