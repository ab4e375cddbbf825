"""A server and the cell of it that is ours: channels are opened from here, groups are made here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from executor.errors import ExecutorError, PermanentError
from executor.keys import Keys
from executor.settings import DeliverySettings, ServerSettings
from executor.streams.channel import Channel


class Cell:
    """One prefix on one server, with the rules of delivery that hold there.

    Attributes:
        keys: names under the prefix.
        delivery: TTLs, caps and the lease.
    """

    def __init__(self, url: str, settings: ServerSettings, delivery: DeliverySettings) -> None:
        self.url = url
        self.settings = settings
        self.keys = Keys(settings.prefix)
        self.delivery = delivery
        self._channels: list[Channel] = []

    def channel(self, name: str) -> Channel:
        """A connection of one's own; it opens itself on first use. `name` shows in CLIENT LIST."""
        channel = Channel(self.url, self.settings, name)
        self._channels.append(channel)
        return channel

    @property
    def round_trips(self) -> int:
        """Writes of all channels that waited for a reply."""
        return sum(channel.round_trips for channel in self._channels)

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels:
            await channel.close()


async def ensure_groups(channel: Channel, streams: Sequence[str], group: str) -> list[str]:
    """Create a consumer group on each stream at 0, before anything is added, if it is not there.

    A group made at `$`, or in the middle, has no exact lag, and KEDA would never wake anything.

    Returns:
        The streams that had none.
    """
    made = []
    commands = [("XGROUP", "CREATE", stream, group, "0", "MKSTREAM") for stream in streams]
    for stream, future in zip(streams, await channel.pipeline(commands), strict=True):
        try:
            await future
            made.append(stream)
        except PermanentError as error:
            if "BUSYGROUP" not in str(error):
                raise
    return made


async def close_quietly(cell: Cell) -> None:
    """Close what can be closed; a server that is away does not matter any more."""
    with suppress(ExecutorError, OSError):
        await cell.close()
