"""What a caller may ask for, and how each spelling of it is read.

Two spellings: plain stream fields (text; compound values as JSON; seconds and bytes as numbers), and one field
`request` with the msgpack of the same map. This is the edge: pydantic checks types here, everything behind it works
with the validated map. Fields of later features are known by name, so that they are refused and never ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from executor import codec
from executor.errors import CorruptEntry, InvalidField
from executor.keys import ID_PATTERN

NOT_SUPPORTED_YET: Final = (
    "files",
    "outputs",
    "session",
    "persist",
)
_LIMITS_NOT_SUPPORTED_YET: Final = ("disk", "network")

_LARGEST: Final = 2**62
"""Largest whole number of a limit: every reader and the server can hold it."""
_DEEPEST: Final = 64
"""Most levels of lists and maps in metadata: far below what packs, prints or parses."""

Instant = Annotated[float, Field(ge=0, le=2**33)]
"""Seconds since the epoch (UTC)."""
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
ResourceClass = Literal["cpu", "high-memory", "gpu"]
CLASSES: Final[tuple[ResourceClass, ...]] = get_args(ResourceClass)
TRACEPARENT: Final = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


class Limits(BaseModel):
    """What one evaluation may use. An absent limit is the policy's default."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    cpu: Seconds | None = None
    """CPU seconds of the process tree; default: the timeout."""
    memory: Annotated[int, Field(ge=16 * 1024 * 1024, le=_LARGEST)] | None = None
    """Resident bytes of the process tree."""
    processes: Annotated[int, Field(ge=1, le=_LARGEST)] | None = None
    """Processes and threads."""
    output: Annotated[int, Field(ge=1024, le=_LARGEST)] | None = None
    """Bytes kept of each of stdout and stderr."""


class EvaluationRequest(BaseModel):
    """One evaluation as its caller describes it. Durations are seconds, sizes are bytes."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, populate_by_name=True)

    v: Literal[1] = 1
    """Version of this map."""
    id: Annotated[str, Field(pattern=rf"^{ID_PATTERN.pattern}$")] | None = None
    """The caller's id; absent: the id of the ingress entry."""
    code: str | None = None
    """Python source; exactly one of `code` and `command`."""
    command: Annotated[list[str], Field(min_length=1)] | None = None
    """A program and its arguments, run without a shell."""
    stdin: str | bytes = ""
    args: list[str] = Field(default_factory=list)
    """`sys.argv[1:]` of the code, or further arguments of the command."""
    env: dict[str, str] = Field(default_factory=dict)
    template: Name = "python"
    pool: Name | None = None
    """Warm pool; default: the template's."""
    timeout: Seconds | None = None
    """Wall clock of one attempt; default: the policy's."""
    limits: Limits = Limits()
    expected_duration: Seconds | None = None
    """What routing goes by; default: the timeout."""
    resource_class: Annotated[ResourceClass, Field(alias="class")] = "cpu"
    isolation: Literal["process", "contained", "strong"] = "process"
    """Least level of isolation."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """A request with a key that was used before is not run; it is answered with the first one's id."""
    priority: Literal["high", "normal", "low"] = "normal"
    """Which waiting work goes first: 16 high ones for 4 normal ones for 1 low one, while there are of each."""
    not_before: Instant | None = None
    """It does not begin before."""
    deadline: Instant | None = None
    """It is not worth its result after: it ends as `timed_out`, running or not."""
    reply_to: str | None = None
    stream: bool = False
    """Whether output is published live on `executor:output:<id>`."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    traceparent: Annotated[str, Field(pattern=TRACEPARENT)] | None = None
    """W3C trace context of the caller."""

    @field_validator("code", "stdin", "reply_to", "idempotency_key")
    @classmethod
    def _is_text(cls, value: str | bytes | None) -> str | bytes | None:
        if isinstance(value, str):
            _encodable(value)
        return value

    @field_validator("code", "command", "args")
    @classmethod
    def _without_nul(cls, value: str | list[str] | None) -> str | list[str] | None:
        for text in [value] if isinstance(value, str) else value or []:
            _encodable(text)
            if "\0" in text:
                raise ValueError("holds a NUL character; remove it")
        return value

    @field_validator("env")
    @classmethod
    def _is_environment(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            _encodable(name + text)
            if not name or "=" in name or "\0" in name + text:
                raise ValueError(
                    f"{name[:128]!r} cannot be an environment variable: names are not empty and have no = or NUL"
                )
        return value

    @field_validator("metadata")
    @classmethod
    def _is_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        _check_json(value, _DEEPEST)
        return value

    @model_validator(mode="after")
    def _has_one_program(self) -> EvaluationRequest:
        if (self.code is None) == (self.command is None):
            raise ValueError("code: give exactly one of `code` and `command`")
        return self

    @model_validator(mode="after")
    def _has_time(self) -> EvaluationRequest:
        if self.not_before is not None and self.deadline is not None and self.deadline <= self.not_before:
            raise ValueError("deadline: is not after not_before")
        return self

    def to_map(self) -> dict[str, Any]:
        """The set fields as a map, for the `request` spelling."""
        return self.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)


def _encodable(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which is not a character; send valid Unicode") from None


def _check_json(value: Any, levels: int) -> None:
    if levels < 0:
        raise ValueError(f"is nested more than {_DEEPEST} levels deep")
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ValueError("holds a name that is not text")
            _encodable(name)
            _check_json(item, levels - 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, levels - 1)
    elif isinstance(value, str):
        _encodable(value)
    else:
        _check_scalar(value)


def _check_scalar(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that is not finite")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError("holds a whole number of more than 64 bits; send it as text")
    if value is not None and not isinstance(value, int | float):
        raise ValueError(f"holds a {type(value).__name__}, which JSON does not have")


_TEXT: Final = frozenset(
    {
        "id",
        "code",
        "stdin",
        "template",
        "pool",
        "class",
        "isolation",
        "priority",
        "reply_to",
        "traceparent",
        "idempotency_key",
    }
)
_NUMBERS: Final = frozenset({"v", "timeout", "expected_duration", "max_attempts", "not_before", "deadline"})
_JSON: Final = frozenset({"command", "args", "env", "limits", "metadata"})
FIELDS: Final = _TEXT | _NUMBERS | _JSON | {"stream"} | set(NOT_SUPPORTED_YET)
"""Every name that a request may use, of later features too."""


def parse_entry(fields: Mapping[bytes, bytes], max_bytes: int) -> EvaluationRequest:
    """Read the fields of an ingress entry in either spelling.

    Args:
        fields: of the stream entry.
        max_bytes: largest sum of all names and values.

    Raises:
        InvalidField: the first thing that is not acceptable, by the caller's name for it.
    """
    size = sum(len(name) + len(value) for name, value in fields.items())
    if not fields:
        raise InvalidField("code", "the entry has no fields; give `code` or `command`")
    if size > max_bytes:
        raise InvalidField("request", f"{size} bytes, at most {max_bytes} are taken")
    if b"request" in fields:
        if len(fields) > 1:
            other = next(name for name in fields if name != b"request").decode("utf-8", "replace")
            raise InvalidField(_shown(other), "stands beside `request`; put everything into `request` or nothing")
        return from_map(_unpacked(fields[b"request"]))
    return from_map(_plain(fields))


def peek(fields: Mapping[bytes, bytes]) -> tuple[str, str]:
    """Id and reply stream as an entry spells them, good or not; so that even a bad request is answered by its name."""
    if b"request" not in fields:
        return fields.get(b"id", b"").decode("latin-1"), fields.get(b"reply_to", b"").decode("latin-1")
    values = codec.glimpse(fields[b"request"])
    found = (values.get("id"), values.get("reply_to"))
    return tuple(value if isinstance(value, str) else "" for value in found)  # type: ignore[return-value]


def from_map(values: Mapping[str, Any]) -> EvaluationRequest:
    """Check a map of typed values.

    Raises:
        InvalidField: as for parse_entry.
    """
    _refuse_unsupported(values)
    try:
        return EvaluationRequest.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"] if part not in ("str", "bytes")) or "code"
        message = first["msg"].removeprefix("Value error, ").removeprefix("code: ")
        raise InvalidField(_shown(name), message) from None


def _refuse_unsupported(values: Mapping[str, Any]) -> None:
    for name in NOT_SUPPORTED_YET:
        if values.get(name) is not None:
            raise InvalidField(name, "not supported yet")
    limits = values.get("limits")
    for name in _LIMITS_NOT_SUPPORTED_YET:
        if isinstance(limits, Mapping) and limits.get(name) is not None:
            raise InvalidField(f"limits.{name}", "not supported yet")
    if values.get("isolation") in ("contained", "strong"):
        raise InvalidField("isolation", f"{values['isolation']}: not supported yet")


def _unpacked(raw: bytes) -> dict[str, Any]:
    try:
        return codec.decode(raw)
    except CorruptEntry as error:
        field = "v" if str(error).startswith("v:") else "request"
        raise InvalidField(field, str(error).removeprefix("v: ")) from None


def _shown(name: str) -> str:
    """A name that the caller made up, in a length for reading."""
    return name[:128] or "''"


def _plain(fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for raw_name, raw in fields.items():
        name = raw_name.decode("utf-8", "replace")
        if name not in FIELDS:
            raise InvalidField(_shown(name), f"unknown field; the fields are {', '.join(sorted(FIELDS))}")
        values[name] = _plain_value(name, raw)
    return values


def _plain_value(name: str, raw: bytes) -> Any:
    if name == "stdin":
        return _text_or_bytes(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidField(name, f"not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}") from None
    if name in _NUMBERS:
        return _number(name, text)
    if name == "stream":
        if text not in ("0", "1", "true", "false"):
            raise InvalidField(name, "give 1 or 0, true or false")
        return text in ("1", "true")
    if name in _JSON:
        try:
            return json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidField(name, f"not JSON: {error}") from None
    return text


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _number(name: str, text: str) -> int | float:
    try:
        if text != text.strip() or "_" in text or not text.isascii():
            raise ValueError(text)
        value = float(text)
    except ValueError:
        raise InvalidField(name, f"{text[:40]!r} is not a number") from None
    if not math.isfinite(value):
        raise InvalidField(name, f"{text[:40]} is not a finite number")
    return int(value) if value.is_integer() else value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
