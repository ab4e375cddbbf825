"""Stored payloads: what is packed comes back, and arbitrary bytes are either a map or CorruptEntry."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor import codec
from executor.errors import CorruptEntry

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars | st.binary(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
maps = st.dictionaries(st.text().filter(lambda name: name != "v"), values, max_size=6)


@given(maps)
def test_a_map_comes_back_as_it_was(value: dict[str, Any]) -> None:
    assert codec.decode(codec.encode(value)) == {"v": codec.VERSION, **value}


@given(st.binary() | values.map(msgpack.packb))
def test_bytes_are_a_map_or_corrupt(raw: bytes) -> None:
    with suppress(CorruptEntry):
        assert codec.decode(raw)["v"] == codec.VERSION


@given(st.binary() | values.map(msgpack.packb))
def test_a_glimpse_never_fails(raw: bytes) -> None:
    assert isinstance(codec.glimpse(raw), dict)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="a byte that msgpack does not use"),
        pytest.param(b"\x90", id="a list"),
        pytest.param(b"\x81\xa1v", id="cut off"),
        pytest.param(b"\x81\xa1v\x01\x00", id="something behind it"),
        pytest.param(b"\x82\xa1v\x01\x01\x01", id="a number as key"),
        pytest.param(b"\x82\xa1v\x01\xc4\x01a\x01", id="bytes as key"),
        pytest.param(b"\x82\xa1v\x01\xa1a\xa1\xff", id="text that is not UTF-8"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="a list of four billion"),
        pytest.param(b"\x82\xa1v\x01\xa1a" + b"\x91" * 100_000 + b"\x90", id="a hundred thousand levels"),
    ],
)
def test_what_is_not_a_map_is_corrupt(raw: bytes) -> None:
    with pytest.raises(CorruptEntry, match=r"not a msgpack map.*\S"):
        codec.decode(raw)


@pytest.mark.parametrize("version", [None, 0, 2, -1, 1.0, True, "1", [1]])
def test_another_version_is_corrupt_and_named(version: Any) -> None:
    with pytest.raises(CorruptEntry, match=r"^v: this version reads 1 to 1"):
        codec.decode(msgpack.packb({"v": version}))


def test_a_map_without_a_version_is_corrupt() -> None:
    with pytest.raises(CorruptEntry, match="v:"):
        codec.decode(msgpack.packb({"code": "pass"}))


def test_a_glimpse_reads_what_decode_refuses() -> None:
    newer = msgpack.packb({"v": 9, "id": "mine"})
    surrogate = msgpack.packb({"v": 1, "id": "mine", "code": "\ud800"}, unicode_errors="surrogatepass")

    assert codec.glimpse(newer)["id"] == "mine"
    assert codec.glimpse(surrogate)["id"] == "mine"
