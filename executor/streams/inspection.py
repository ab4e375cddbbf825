"""Collects what `executor doctor` looks at on a server, as plain data. Reads only, and judges nothing."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable
from typing import Any, Final

from executor.errors import ExecutorError, NotAuthorized, PermanentError
from executor.keys import DEFAULT_TENANT, DISPATCHERS, WORKERS
from executor.streams.server import Cell

_SECTIONS: Final = ("server", "memory", "persistence", "replication", "cluster")
_SCAN_COUNT: Final = 500
_STUCK_COUNT: Final = 10


class Inspector:
    """Looks at one cell.

    What the server's access list refuses is noted in `refused` and left out of the rest; anything else that goes
    wrong is raised, because then nothing can be seen.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._channel = cell.channel("doctor")
        self._refused: dict[str, str] = {}

    async def collect(self, others: Iterable[tuple[str, str]] = (), *, scans: int = 40) -> dict[str, Any]:
        """Everything.

        Args:
            others: further (stream, group) pairs, named by manifests perhaps before they exist.
            scans: SCAN calls at most, each over about 500 keys.

        Raises:
            ExecutorError: the server cannot be reached, or refuses the credentials.
        """
        await self._greet()
        keys, lease_ms = self._cell.keys, round(self._cell.delivery.lease * 1000)
        info: dict[str, str] = {}
        for section in _SECTIONS:
            info |= await self._try(f"INFO {section}", self._info(section), {})
        appendfsync = await self._try("CONFIG GET appendfsync", self._config("appendfsync"), "")
        user = await self._try("ACL WHOAMI", self._text("ACL", "WHOAMI"), "")
        found = await self._try("SCAN", self._sample(scans), {"keys": [], "whole": False})
        streams = {(keys.requests(DEFAULT_TENANT), DISPATCHERS): "ingress"}
        for key in found["keys"]:
            if key.startswith(keys.requests() + ":"):
                streams[key, DISPATCHERS] = "ingress"
            elif key.startswith(keys.lane("")):
                streams[key, WORKERS] = "lane"
        streams |= {pair: "manifest" for pair in others if pair not in streams}
        executors = await self._try("HGETALL executors", self._executors(), None)
        return {
            "prefix": keys.prefix,
            "lane_prefix": keys.lane(""),
            "lease_ms": lease_ms,
            "info": info,
            "appendfsync": appendfsync,
            "user": user,
            "executors": executors,
            "streams": [
                await self._stream(stream, group, kind, lease_ms) for (stream, group), kind in sorted(streams.items())
            ],
            "dead": await self._try("XLEN dead", self._channel.call("XLEN", keys.dead()), 0),
            "sampled": len(found["keys"]),
            "whole": found["whole"],
            "immortal": await self._try("PTTL", self._immortal(found["keys"]), []),
            "refused": self._refused,
        }

    async def _greet(self) -> None:
        try:
            await self._channel.call("PING")
        except NotAuthorized as error:
            if "permissions" not in str(error):  # redis-py keeps the server's sentence and drops its NOPERM
                raise
            self._refused["PING"] = str(error)

    async def _try(self, what: str, look: Awaitable[Any], otherwise: Any) -> Any:
        try:
            return await look
        except (NotAuthorized, PermanentError) as error:
            self._refused[what] = str(error)
            return otherwise

    async def _info(self, section: str) -> dict[str, str]:
        lines = (await self._text("INFO", section)).splitlines()
        return {name: value for name, sep, value in (line.partition(":") for line in lines) if sep}

    async def _config(self, name: str) -> str:
        reply = await self._channel.call("CONFIG", "GET", name)
        return str(reply[1].decode()) if reply else ""

    async def _text(self, *command: str) -> str:
        return str((await self._channel.call(*command)).decode())

    async def _sample(self, scans: int) -> dict[str, Any]:
        """Keys of the cell, as many as `scans` calls show."""
        pattern = "".join(f"\\{char}" if char in "*?[]\\" else char for char in self._cell.keys.prefix)
        cursor, seen = b"0", set()
        for _ in range(scans):
            cursor, page = await self._channel.call("SCAN", cursor, "MATCH", f"{pattern}:*", "COUNT", _SCAN_COUNT)
            seen |= {key.decode("utf-8", "replace") for key in page}
            if cursor == b"0":
                break
        return {"keys": sorted(seen), "whole": cursor == b"0"}

    async def _immortal(self, keys: list[str]) -> list[str]:
        """Those of the records and results that would never expire."""
        heads = (self._cell.keys.record("", "")[:-1], self._cell.keys.result(DEFAULT_TENANT, ""))
        mortal = [key for key in keys if key.startswith(heads)]
        if not mortal:
            return []
        lives = await self._all([("PTTL", key) for key in mortal])
        return [key for key, life in zip(mortal, lives, strict=True) if life == -1]

    async def _executors(self) -> list[dict[str, Any]]:
        """The registry, with whether each heartbeat stands."""
        flat = await self._channel.call("HGETALL", self._cell.keys.executors())
        rows: list[dict[str, Any]] = []
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            facts = json.loads(value)
            alive = bool(await self._channel.call("EXISTS", self._cell.keys.heartbeat(name.decode())))
            rows.append({"id": name.decode(), "lane": str(facts.get("lane", "")), "alive": alive})
        return rows

    async def _stream(self, stream: str, group: str, kind: str, lease_ms: int) -> dict[str, Any]:
        view: dict[str, Any] = {"stream": stream, "name": group, "kind": kind, "exists": None, "group": None}
        view |= {"length": 0, "consumers": [], "stuck": []}
        groups: Any = await self._try(f"XINFO GROUPS {stream}", self._groups(stream), False)
        if groups is False:
            return view
        view["exists"] = groups is not None
        if not isinstance(groups, list):
            return view
        view["group"] = next((one for one in groups if one["name"] == group), None)
        view["length"] = await self._try(f"XLEN {stream}", self._channel.call("XLEN", stream), 0)
        if view["group"] is None:
            return view
        view["consumers"] = await self._try(f"XINFO CONSUMERS {stream}", self._consumers(stream, group, kind), [])
        idle = 2 * lease_ms
        stuck = ("XPENDING", stream, group, "IDLE", idle, "-", "+", _STUCK_COUNT)
        rows: list[Any] = await self._try(f"XPENDING {stream}", self._channel.call(*stuck), [])
        view["stuck"] = [
            {"id": entry.decode(), "consumer": consumer.decode(), "idle": age, "deliveries": times}
            for entry, consumer, age, times in rows
        ]
        return view

    async def _groups(self, stream: str) -> list[dict[str, Any]] | None:
        """The groups of a stream; None when it does not exist."""
        try:
            return [_named(flat) for flat in await self._channel.call("XINFO", "GROUPS", stream)]
        except PermanentError as error:
            if "no such key" not in str(error):
                raise
            return None

    async def _consumers(self, stream: str, group: str, kind: str) -> list[dict[str, Any]]:
        found = [_named(flat) for flat in await self._channel.call("XINFO", "CONSUMERS", stream, group)]
        if kind == "ingress":  # dispatchers have no heartbeat; how long ago they asked is known
            return [{**one, "alive": None} for one in found]
        beats = await self._all([("EXISTS", self._cell.keys.heartbeat(one["name"])) for one in found])
        return [{**one, "alive": bool(beat)} for one, beat in zip(found, beats, strict=True)]

    async def _all(self, commands: list[tuple[str, ...]]) -> list[Any]:
        if not commands:
            return []
        replies: list[Any] = []
        failure: ExecutorError | None = None
        for future in await self._channel.pipeline(commands):
            try:
                replies.append(await future)
            except ExecutorError as error:
                failure = error
        if failure is not None:
            raise failure
        return replies


def _named(flat: list[Any]) -> dict[str, Any]:
    texts = [item.decode() if isinstance(item, bytes) else item for item in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
