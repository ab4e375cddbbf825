"""Where the terminal result of one evaluation goes: the keys and flow limits that every ending script takes."""

from __future__ import annotations

from dataclasses import dataclass

from executor.keys import Keys
from executor.settings import DeliverySettings


@dataclass(frozen=True, slots=True)
class Destination:
    """One evaluation and the streams its caller asked for."""

    tenant: str
    id: str
    reply_to: str = ""
    stream: bool = False

    def keys(self, keys: Keys) -> list[str]:
        """KEYS 1..5 of an ending script; the results stream stands in for what was not asked for."""
        results = keys.results()
        return [
            keys.record(self.tenant, self.id),
            keys.result(self.tenant, self.id),
            results,
            self.reply_to or results,
            keys.output(self.tenant, self.id) if self.stream else results,
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
