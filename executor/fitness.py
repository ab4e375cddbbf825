"""Whether a server can carry a cell, told from what its INFO says. Programs refuse to work on one that cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

REDIS: Final = (7, 0)
VALKEY: Final = (7, 2)
"""The first there was; it has what Redis 7.2 has."""

_HASH_TAG: Final = re.compile(r"[^{]*\{[^}]+\}")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that a cell cannot live with.

    Attributes:
        about: what was looked at.
        seen: what was seen.
        why: why it matters.
        act: what to do.
    """

    about: str
    seen: str
    why: str
    act: str

    def __str__(self) -> str:
        return f"{self.seen} ({self.why}): {self.act}"


def faults(info: Mapping[str, str], prefix: str) -> Iterator[Fault]:
    """What is wrong with a server; nothing about what its INFO does not tell.

    Args:
        info: names and values of INFO.
        prefix: of the cell's keys.
    """
    name, found, least = flavour(info)
    if found and found < least:
        yield Fault(
            "server",
            f"{name} {_dotted(found)}",
            "before Redis 7.0 a group has no lag, without which KEDA starts nothing, and scripts have no flags",
            f"upgrade to {name} {_dotted(least)} or later",
        )
    policy = info.get("maxmemory_policy", "")
    if policy not in ("", "noeviction"):
        yield Fault(
            "memory",
            f"maxmemory-policy is {policy}",
            "a full server may remove the record of an evaluation that is still queued",
            "executor redis CONFIG SET maxmemory-policy noeviction, and the same in its configuration",
        )
    if info.get("cluster_enabled") == "1" and _HASH_TAG.match(prefix) is None:
        yield Fault(
            "server",
            f"it is a Redis Cluster and the prefix {prefix!r} is no hash tag",
            "the keys of one script must be in one slot",
            f"EXECUTOR_PREFIX='{{{prefix}}}' for every program, and its name in the streams of KEDA's objects",
        )


def flavour(info: Mapping[str, str]) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Name of the server, its version, () when it is not told, and the least that works."""
    valkey = info.get("valkey_version", "")
    return ("Valkey", version(valkey), VALKEY) if valkey else ("Redis", version(info.get("redis_version", "")), REDIS)


def forgets(info: Mapping[str, str]) -> bool:
    """Whether it says that it keeps no append-only file."""
    return info.get("aof_enabled") == "0"


def version(text: str) -> tuple[int, ...]:
    """Leading numbers of a version, () when there are none."""
    numbers: list[int] = []
    for part in text.removeprefix("v").split("-")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
