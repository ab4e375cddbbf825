"""The .lua files: one transition each, sent to the server by hash.

A script starts with a shebang line (flags), then says its KEYS, ARGV and returns. The shared functions of lua/lib
are put between the shebang and the script's own text, because the server has no way to include them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from executor.errors import ScriptMissing
from executor.streams.channel import Channel, Command

_FOLDER = Path(__file__).with_name("lua")


@dataclass(frozen=True, slots=True)
class Script:
    """Source text and its SHA-1, by which the server knows it."""

    name: str
    source: str
    sha: str

    def command(self, keys: Sequence[str], args: Sequence[str | bytes | int | float]) -> Command:
        """EVALSHA with these keys and arguments."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)

    def full(self, command: Command) -> Command:
        """The same call with the source instead of the hash; the server remembers it from then on."""
        return ("EVAL", self.source, *command[2:])


@cache
def script(name: str) -> Script:
    """Load lua/<name>.lua."""
    shebang, _, body = (_FOLDER / f"{name}.lua").read_text().partition("\n")
    parts = ("server", "quota", "record", "terminal", "line", "enter", "dead", "requeue")
    library = "".join((_FOLDER / "lib" / f"{part}.lua").read_text() for part in parts)
    source = f"{shebang}\n{library}\n{body}"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


async def run(channel: Channel, name: str, keys: Sequence[str], args: Sequence[str | bytes | int | float]) -> Any:
    """Run a script; its source is sent when the server does not have it."""
    loaded = script(name)
    command = loaded.command(keys, args)
    try:
        return await channel.call(*command)
    except ScriptMissing:
        return await channel.call(*loaded.full(command))
