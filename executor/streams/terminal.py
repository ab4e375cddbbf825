"""Where the terminal result of one evaluation goes: the keys and flow limits that every ending script takes.

A program that ends what it did not admit looks the destination up in the record.
"""

from __future__ import annotations

from dataclasses import dataclass

from executor.errors import WrongKeyType
from executor.keys import Keys
from executor.settings import DeliverySettings
from executor.streams.channel import Channel


@dataclass(frozen=True, slots=True)
class Destination:
    """One evaluation and the streams its caller asked for."""

    tenant: str
    id: str
    reply_to: str = ""
    stream: bool = False

    def keys(self, keys: Keys) -> list[str]:
        """KEYS 1..6 of an ending script; the results stream stands in for what was not asked for."""
        results = keys.results()
        return [
            keys.record(self.tenant, self.id),
            keys.result(self.tenant, self.id),
            results,
            self.reply_to or results,
            keys.output(self.tenant, self.id) if self.stream else results,
            keys.ages(),
        ]

    def args(self, delivery: DeliverySettings) -> list[str | int]:
        """ARGV 1..6 of an ending script: flags, then TTLs in ms and caps in entries."""
        return [
            "1" if self.reply_to else "0",
            "1" if self.stream else "0",
            round(delivery.result_ttl * 1000),
            delivery.results_cap,
            round(delivery.reply_ttl * 1000),
            delivery.reply_cap,
        ]


@dataclass(frozen=True, slots=True)
class Known:
    """What the record of an evaluation says about ending it; empty where it says nothing."""

    to: Destination
    state: str
    """Empty when there is no record."""
    lane: str
    traceparent: str
    entry_id: str
    """Of its ingress entry, which is where its trace begins."""
    deadline: str
    """Its own, ms since the epoch; empty without one."""
    owner: str
    """Worker that runs it."""


async def look_up(keys: Keys, channel: Channel, tenant: str, evaluation_id: str) -> Known:
    """Read the record of an evaluation. What it says may be corrupt; a reply stream that is none is left out.

    Raises:
        WrongKeyType: its key holds something else.
    """
    names = ("state", "lane", "traceparent", "entry", "deadline", "owner", "reply_to", "stream")
    found = await channel.call("HMGET", keys.record(tenant, evaluation_id), *names)
    *facts, reply_to, stream = ((value or b"").decode("utf-8", "replace") for value in found)
    return Known(
        Destination(tenant, evaluation_id, reply_to if keys.is_reply(reply_to, tenant) else "", stream == "1"), *facts
    )


async def look_past(keys: Keys, channel: Channel, tenant: str, evaluation_id: str) -> Known:
    """The same for who ends an evaluation whatever its key holds: nothing is known when that is no record."""
    try:
        return await look_up(keys, channel, tenant, evaluation_id)
    except WrongKeyType:
        return Known(Destination(tenant, evaluation_id), *[""] * 6)
