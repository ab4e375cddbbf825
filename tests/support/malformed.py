"""Requests as no client of ours makes them, without end: a seed and a number make the same entry again.

Most are not acceptable. A few are by chance, or nearly so: what they would run is harmless and short.
"""

from __future__ import annotations

import json
import random
import string
import struct
from collections.abc import Callable
from typing import Any, Final

import msgpack

from executor.request import FIELDS

Words = list[bytes]
"""Names and values of a stream entry in turn."""

_MIB: Final = 1 << 20
NAN: Final = b"\xa7timeout\xcb" + struct.pack(">d", float("nan"))
_SAFE: Final = ("v", "code", "args", "env", "stdin", "metadata", "template")
"""Fields of which any value that is accepted is soon done with."""


class Malformed:
    """Entries of one seed."""

    def __init__(self, seed: int, reply_to: str) -> None:
        self._seed = seed
        self._reply_to = reply_to
        self._any = random.Random()

    def entry(self, number: int) -> tuple[Words, str]:
        """The words of one entry, and the id that it may be answered under; empty when that is the entry's own."""
        self._any.seed(f"{self._seed}/{number}")
        name = f"m-{number}" if self._any.random() < 0.5 else ""
        base: dict[str, Any] = {"code": "pass"}
        if name:
            base["id"] = name
        if self._any.random() < 0.25:
            base["reply_to"] = self._reply_to
        kind = self._any.choices(_KINDS, _WEIGHTS)[0]
        return kind(self, base), name

    # Plain fields

    def plain_junk(self, base: dict[str, Any]) -> Words:
        """One or two fields that are what they should not be."""
        for _ in range(self._any.randint(1, 2)):
            field, junk = self._any.choice(sorted(FIELDS)), self._junk()
            base[field] = " " if field == "id" else junk
        base.setdefault("colour", "red") if self._any.random() < 0.5 else None
        return self._plain(base)

    def plain_json(self, base: dict[str, Any]) -> Words:
        """A compound field with JSON of another kind, too deep, too large or broken."""
        text = self._any.choice(
            [
                "[" * 5000, '{"a":' * 900 + "1" + "}" * 900, '{"a": NaN}', '{"a": 1e999}', f'{{"memory": {10**400}}}',
                '["\\ud800"]', '{"\\udfff": 1}', "[1, 2", "{'a': 1}", "null", "true", '"text"', "[[], {}]",
                '{"a": "b\\u0000"}',
                '{"": ""}', '{"A=B": "c"}', "\ufeff[]", '{"memory": true}', '{"processes": 1.5}', '{"colour": 1}',
            ]
        )  # fmt: skip
        base[self._any.choice(["args", "env", "limits", "metadata", "command"])] = text
        base["colour"] = "red"
        return self._plain(base)

    def plain_number(self, base: dict[str, Any]) -> Words:
        """A number that is none, or above every limit."""
        numbers = [
            "nan",
            "inf",
            "-inf",
            "-1",
            "-0.0",
            "0",
            "1e400",
            "9" * 400,
            "0x10",
            "1_0",
            " 1",
            "1 ",
            "\u0661",
            "",
            "1,5",
            "1e9",
        ]
        field = self._any.choice(["timeout", "expected_duration", "max_attempts", "deadline", "v"])
        return self._plain({**base, field: self._any.choice(numbers), "timeout!": "1"})

    def plain_bytes(self, base: dict[str, Any]) -> Words:
        """Names and values that are no text."""
        words = self._plain(base)
        for _ in range(self._any.randint(1, 3)):
            words += [self._any.randbytes(self._any.randint(0, 20)), self._any.randbytes(self._any.randint(0, 300))]
        return words

    def plain_twice(self, base: dict[str, Any]) -> Words:
        """A field that is given twice."""
        fields = {"timeout": "1", "args": "[]", **base}
        return [*self._plain(fields), self._any.choice(list(fields)).encode(), b"1"]

    def plain_nothing(self, _base: dict[str, Any]) -> Words:
        """An entry that says nothing."""
        return self._any.choice(
            [[b"", b""], [b"request", b""], [b"code", b"", b"", b""], [b"hello", b"world"], [b"id", b"\x00"]]
        )

    def bad_name(self, base: dict[str, Any]) -> Words:
        """An id, a reply stream or a trace context that cannot be one."""
        field, values = self._any.choice(
            [
                ("id", ["", " ", "a b", "a/b", "x" * 129, "\ufeffa", "a\n", "é", "../..", "*", "\x00"]),
                ("reply_to", ["me", "executor:requests", "executor:reply:", "x" * 5000, "executor:reply:a b"]),
                ("traceparent", ["00", "x" * 55, "00-" + "0" * 32 + "-" + "0" * 16 + "-0g", "\n" * 55, "é" * 55]),
                ("template", ["cobol", "", "python\r\n", "../python"]),
                ("class", ["tpu", "", "CPU"]),
            ]
        )  # fmt: skip
        base.pop("id", None) if field == "id" else None
        base[field] = self._any.choice(values)
        base["colour"] = "red"
        return self._plain(base) if self._any.random() < 0.5 else [b"request", _packed({**base, "timeout": -1})]

    def plain_large(self, base: dict[str, Any]) -> Words:
        """More than is taken."""
        if self._any.random() < 0.02:
            return self._plain({**base, "stdin": "x" * (8 * _MIB)})
        return self._plain({**base, "code": "#" * (_MIB + 1)}) if self._any.random() < 0.1 else self._plain(_many(base))

    # One packed field

    def packed_junk(self, base: dict[str, Any]) -> Words:
        """A map with values of other kinds."""
        field, value = self._any.choice(sorted(FIELDS - {"not_before", "deadline"})), self._value(3)
        base[field] = 5 if field == "id" else value
        return [b"request", _packed({"v": 1, **base, "max_attempts": -1})]

    def packed_cut(self, base: dict[str, Any]) -> Words:
        """A map without its end, or with something behind it."""
        raw = _packed({"v": 1, **base})
        if self._any.random() < 0.3:
            return [b"request", raw + self._any.randbytes(self._any.randint(1, 9))]
        return [b"request", raw[: self._any.randrange(len(raw))]]

    def packed_flips(self, base: dict[str, Any]) -> Words:
        """A map with some bits the other way."""
        raw = bytearray(_packed({"v": 1, **{name: base[name] for name in base if name in _SAFE}, "args": ["a", "b"]}))
        for _ in range(self._any.randint(1, 4)):
            raw[self._any.randrange(len(raw))] ^= 1 << self._any.randrange(8)
        return [b"request", bytes(raw)]

    def packed_noise(self, _base: dict[str, Any]) -> Words:
        """Bytes."""
        return [b"request", self._any.randbytes(self._any.choice([0, 1, 2, 5, 20, 300, 4000]))]

    def packed_deep(self, base: dict[str, Any]) -> Words:
        """Lists and maps without a bottom, or far from it."""
        depth = self._any.choice([10, 100, 600, 1100, 5000, 100_000])
        opening, end = self._any.choice([(b"\x91", b"\x90"), (b"\x81\xa1a", b"\xc0"), (b"\x91\x81\xa1a", b"\xc0")])
        deep = opening * depth + end * self._any.randint(0, 1)
        head = _packed({"v": 1, **base})
        return [b"request", bytes([head[0] + 1]) + head[1:] + b"\xa8metadata" + deep + self._any.choice([b"", b"\xc0"])]

    def packed_lies(self, base: dict[str, Any]) -> Words:
        """Lengths that nothing stands behind, names that are no text, a name twice, types of an extension."""
        head = _packed({"v": 1, **base})
        more = self._any.choice(
            [
                b"\xa4args\xdd\xff\xff\xff\xff", b"\xa4code\xdb\x7f\xff\xff\xff", b"\xa3env\xdf\xff\xff\xff\xff",
                b"\xa5stdin\xc6\xff\xff\xff\xff", b"\x01\x02", b"\xc0\xc0", b"\x91\x01\x02", b"\xa4code\xa2\xff\xfe",
                b"\xa4code\xa4fail", b"\xa7timeout\xd6\xff\x00\x00\x00\x01", b"\xa7timeout\xc7\x0c\xff" + b"\xff" * 12,
                b"\xa8metadata\xd4\x05\x00", b"\xa7timeout\xcf" + b"\xff" * 8, NAN,
                b"\xa2id\xc4\x01a", b"\xa8reply_to\x90", b"\xa1v\xc3", b"\xa1v\x02", b"\xa1v\xca" + b"\x00" * 4,
            ]
        )  # fmt: skip
        return [b"request", bytes([head[0] + 1]) + head[1:] + more]

    def packed_other(self, _base: dict[str, Any]) -> Words:
        """Not a map."""
        values = [
            None,
            1,
            -1,
            2**64 - 1,
            1.5,
            "text",
            b"bytes",
            [],
            [1],
            {},
            {1: 2},
            {"v": 1},
            {"v": None},
            {"v": 2, "code": "pass"},
        ]
        return [b"request", _packed(self._any.choice(values))]

    def packed_beside(self, base: dict[str, Any]) -> Words:
        """Both spellings in one entry."""
        return [b"request", _packed({"v": 1, **base}), *self._plain({"code": "pass"})]

    def _plain(self, fields: dict[str, Any]) -> Words:
        words = []
        for name, value in fields.items():
            text = value if isinstance(value, str | bytes) else json.dumps(value)
            words += [name.encode(), text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")]
        return words

    def _junk(self) -> str | bytes:
        if self._any.random() < 0.3:
            return self._any.randbytes(self._any.randint(0, 40))
        return "".join(self._any.choices(string.printable + "é\u202e\ud800\x00", k=self._any.randint(0, 12)))

    def _value(self, levels: int) -> Any:
        leaf = self._any.choice([None, True, -1, 2**64 - 1, 0.5, float("nan"), float("-inf"), "", "a", b"\xff", "\x00"])
        if levels == 0 or self._any.random() < 0.4:
            return leaf
        if self._any.random() < 0.5:
            return [self._value(levels - 1) for _ in range(self._any.randint(0, 3))]
        return {self._any.choice(["a", "", "b" * 99]): self._value(levels - 1)}


def _packed(value: Any) -> bytes:
    raw: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return raw


def _many(base: dict[str, Any]) -> dict[str, Any]:
    return {**base, **{f"field-{number}": "x" for number in range(300)}}


_SHARES: Final[dict[Callable[[Malformed, dict[str, Any]], Words], int]] = {
    Malformed.plain_junk: 14, Malformed.plain_json: 8, Malformed.plain_number: 8, Malformed.plain_bytes: 8,
    Malformed.plain_twice: 4, Malformed.plain_nothing: 3, Malformed.bad_name: 10, Malformed.plain_large: 1,
    Malformed.packed_junk: 10, Malformed.packed_cut: 10, Malformed.packed_flips: 10, Malformed.packed_noise: 8,
    Malformed.packed_deep: 3, Malformed.packed_lies: 10, Malformed.packed_other: 3, Malformed.packed_beside: 3,
}  # fmt: skip
_KINDS, _WEIGHTS = list(_SHARES), list(_SHARES.values())
