"""Every Redis key, stream, group and channel name, as functions of one prefix.

Nothing else in the project spells a key. A prefix is a cell: on a Redis Cluster it is a hash tag
(`{executor}`), so that all keys of a script share a slot. Tenant names cannot hold `:` or `/` and ids cannot
hold `/`, therefore no two different (tenant, id) pairs share a key.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

DEFAULT_PREFIX: Final = "executor"
DEFAULT_TENANT: Final = "default"
DISPATCHERS: Final = "dispatchers"
"""Consumer group of every ingress stream."""
WORKERS: Final = "workers"
"""Consumer group of every lane."""

PRIORITIES: Final = ("high", "normal", "low")
"""In the order in which they go first."""

ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
AGAIN_PATTERN: Final = re.compile(r"(.+):again-([0-9]{1,9})")
"""Id of an evaluation that was run again from the dead letters: the first one's, and how often."""
TENANT_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Keys:
    """Names under one prefix."""

    prefix: str = DEFAULT_PREFIX

    def requests(self, tenant: str = DEFAULT_TENANT) -> str:
        """Ingress stream of a tenant (stream, group `dispatchers`)."""
        return f"{self.prefix}:requests" + ("" if tenant == DEFAULT_TENANT else f":{tenant}")

    def record(self, tenant: str, evaluation_id: str) -> str:
        """State of one evaluation (hash): payload, state, attempt, generation, owner, cancel mark, outcome."""
        return f"{self.prefix}:eval:{tenant}:{evaluation_id}"

    def evaluation_of(self, record: str) -> tuple[str, str]:
        """Tenant and id that a record's key is made of."""
        tenant, _, evaluation_id = record.removeprefix(f"{self.prefix}:eval:").partition(":")
        return tenant, evaluation_id

    def result(self, tenant: str, evaluation_id: str) -> str:
        """The readable terminal result (hash); exists only once it is committed."""
        return f"{self.prefix}:result:{_scoped(tenant, evaluation_id)}"

    def output(self, tenant: str, evaluation_id: str) -> str:
        """Live output chunks (stream), ended by one marker that the commit writes."""
        return f"{self.prefix}:output:{_scoped(tenant, evaluation_id)}"

    def results(self) -> str:
        """Every terminal result of the cell in commit order (capped stream)."""
        return f"{self.prefix}:results"

    def dead(self) -> str:
        """Dead letters (capped stream)."""
        return f"{self.prefix}:dead"

    def reply(self, name: str, tenant: str = DEFAULT_TENANT) -> str:
        """Reply stream of one caller (capped stream with a TTL)."""
        return f"{self.prefix}:reply:{_scoped(tenant, name)}"

    def is_reply(self, key: str, tenant: str) -> bool:
        """Whether a caller of a tenant may name this key in `reply_to`: what is written there is not its own write."""
        head = self.reply("", tenant)
        return key.startswith(head) and ID_PATTERN.fullmatch(key[len(head) :]) is not None

    def lane(self, name: str) -> str:
        """Stream of a lane (thin entries, group `workers`): what KEDA scales on."""
        return f"{self.prefix}:lane:{name}"

    def once(self, tenant: str, key: str) -> str:
        """Id that a caller's idempotency key was first used for (string with a TTL)."""
        return f"{self.prefix}:once:{tenant}:{hashlib.sha256(key.encode()).hexdigest()[:32]}"

    def line(self, lane: str) -> list[str]:
        """What the order before a lane is made of (lua/lib/line.lua), all with a TTL."""
        turns = [f"{self.prefix}:turns:{lane}:{name}" for name in PRIORITIES]
        own = [f"{self.prefix}:{name}:{lane}" for name in ("order", "later", "waiting")]
        return [*turns, *own, self.usage(), self.quotas()]

    def waiting(self, lane: str) -> tuple[str, str]:
        """Of these, what waits in line for room in the lane, and what waits for its time (sorted sets)."""
        _, _, _, _, later, waiting, _, _ = self.line(lane)
        return waiting, later

    def usage(self) -> str:
        """What each tenant has open, and in lanes (sorted set with a TTL; lua/lib/quota.lua)."""
        return f"{self.prefix}:usage"

    def quotas(self) -> str:
        """What each tenant may have (hash with a TTL; executor/streams/quotas.py)."""
        return f"{self.prefix}:quotas"

    def executors(self) -> str:
        """Registry of workers (hash: worker id -> JSON)."""
        return f"{self.prefix}s"

    def heartbeat(self, worker: str) -> str:
        """Exists while a worker is alive (string with a TTL)."""
        return f"{self.prefix}:heartbeat:{worker}"

    def ages(self) -> str:
        """When each evaluation that has not ended is too old to go on (sorted set with a TTL: record -> ms)."""
        return f"{self.prefix}:ages"

    def starts(self) -> str:
        """Notes of workers that began while work waited for them (list with a TTL), for traces."""
        return f"{self.prefix}:starts"

    def control(self, worker: str) -> str:
        """Pub/sub channel on which a worker hears of cancels."""
        return f"{self.prefix}:control:{worker}"


def flaw_of_name(tenant: str, evaluation_id: str) -> str:
    """Why these two cannot name an evaluation; empty when they can."""
    for name, text, pattern in (("id", evaluation_id, ID_PATTERN), ("tenant", tenant, TENANT_PATTERN)):
        if pattern.fullmatch(text) is None:
            return f"{name}: cannot be {text[:80]!r}"
    return ""


def _scoped(tenant: str, evaluation_id: str) -> str:
    return evaluation_id if tenant == DEFAULT_TENANT else f"{tenant}/{evaluation_id}"


def warm_lane(pool: str) -> str:
    """Name of the lane of a warm pool."""
    return f"warm.{pool}"


def job_lane(resource_class: str) -> str:
    """Name of the lane whose entries each get a Job of their own."""
    return f"job.{resource_class}"
