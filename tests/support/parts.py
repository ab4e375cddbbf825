"""The parts of dispatcher and worker, moved by hand: one step at a time, so that a test can meddle between any two."""

from __future__ import annotations

from dispatcher.intake import Intake
from dispatcher.janitor import Janitor
from dispatcher.policy import trusting_policy
from dispatcher.surroundings import Surroundings
from executor.errors import CorruptEntry, GroupMissing, Unanswerable
from executor.keys import DEFAULT_TENANT
from executor.outage import Outage
from executor.outcome import Outcome, Reason
from executor.result import EvaluationResult
from executor.streams.ingress import Ingress
from executor.streams.lane import Lane, LaneEntry, Lease, Registration
from executor.streams.terminal import Destination
from executor.tracing import Tracer
from tests.support.stack import Stack
from tests.support.wait import wait_until

LANE = "warm.python"


class Parts:
    """One dispatcher and one worker of a cell, without their loops.

    Attributes:
        ingress: the dispatcher's, of tenant `default`.
        intake: decides about what it reads.
        janitor: its passes.
        lane: the worker's.
    """

    def __init__(self, stack: Stack, credit: int = 256) -> None:
        self._stack = stack
        cell, settings, off = stack.cell, stack.settings, Tracer("test", "none")
        streams = [cell.keys.requests()]
        self.ingress = Ingress(cell, "by-hand", [DEFAULT_TENANT])
        self.intake = Intake(self.ingress, settings, trusting_policy(), Outage("test"), off)
        self.janitor = Janitor(cell, streams, 1.0, lambda _: credit, Surroundings(), off)
        self.lane = Lane(cell, LANE, "by-hand")
        self._recovered = False

    async def prepare(self) -> None:
        """Make the groups."""
        await self.ingress.ensure()
        await self.lane.ensure()

    async def take_in(self) -> None:
        """Answer what waits in ingress, and what could not be answered before."""
        _, reading = await self.ingress.exchange([], 128, 1)
        await self.intake._answer(await reading)
        await self.intake.take_over(0)

    async def claim(self) -> Lease:
        """Read and claim one entry."""
        (entry,) = await self.lane.read(1, 5000)
        lease = await self.lane.claim(entry)
        assert lease is not None
        return lease

    async def work(self, to: Destination) -> None:
        """Do with what is in the lane what a worker would; each evaluation succeeds.

        What it has read and not claimed is looked for once: reading it again would renew its lease.
        """
        missed = [] if self._recovered else await self.lane.pending(10)
        self._recovered = True
        for entry in [*missed, *await self.lane.read(10, 1)]:
            await self._evaluate(entry, to)

    async def _evaluate(self, entry: LaneEntry, to: Destination) -> None:
        try:
            lease = await self.lane.claim(entry)
        except (CorruptEntry, Unanswerable) as error:
            reason = Reason.CORRUPT if isinstance(error, CorruptEntry) else Reason.UNANSWERABLE
            await self.lane.bury(entry, reason, str(error))
            return
        if lease is not None:
            await self.lane.commit(lease, to, succeeded(entry))

    async def beat(self, lease: Lease) -> list[str]:
        """Renew."""
        return await self.lane.renew([lease], Registration("", "busy", 1, 1, "python", LANE))

    async def bring_to_an_end(self, to: Destination, ids: set[str]) -> None:
        """Go on with the whole cell until each of the ids has a result, or a letter."""

        async def ended() -> bool:
            try:
                await self.take_in()
                await self.janitor.pass_once()
                await self.work(to)
            except GroupMissing:
                await self.prepare()
            return ids <= set(await self.answers())

        await wait_until(ended, f"{ids} have an end", 10)

    async def answers(self) -> list[str]:
        """Ids of results, in order; and of letters of what has no result."""
        results = [entry["id"] for entry in await self._stack.stream(self._stack.cell.keys.results())]
        letters = [entry["id"] for entry in await self._stack.stream(self._stack.cell.keys.dead())]
        return results + [one for one in letters if one not in results]


def succeeded(entry: LaneEntry) -> EvaluationResult:
    """A result as of code that does nothing."""
    return EvaluationResult(id=entry.id, tenant=entry.tenant, outcome=Outcome.SUCCEEDED, worker="by-hand", attempt=1)
