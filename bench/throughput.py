"""Isolated evaluations per second of one worker beside the bare loop; burst; batched enqueue; round trips.

Server, dispatcher and producer share core 0, the worker and its children have core 1, the bare loop runs on core 1.

    python -m bench.throughput [--rounds 5] [--n 1500] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time

from bench.stack import SERVER_CORE, WORKER_CORE, BenchStack, bare_rate, bench_stack
from bench.table import Spread, dump, render
from executor.client import Client, Handle
from executor.streams.channel import Channel
from executor.streams.server import Cell
from executor.streams.upkeep import Upkeep
from executor.streams.waiting import Waiting

TARGETS = {
    "drain / bare loop": (">=", 0.80),
    "burst of 100, last result, s": ("<=", 0.3),
    "enqueue batched, per s": (">=", 30_000.0),
    "round trips alone": ("<=", 6.0),
    "round trips saturated": ("<=", 4.0),
}


class Meter:
    """Reads what the server counted: one read from a socket is about one trip of a client."""

    def __init__(self, stack: BenchStack) -> None:
        self._channel = Channel(stack.url, stack.settings.server, "meter")

    async def reads(self) -> int:
        """Reads from client sockets so far."""
        text = (await self._channel.call("INFO", "stats")).decode()
        line = next(line for line in text.splitlines() if line.startswith("total_reads_processed"))
        return int(line.partition(":")[2])

    async def close(self) -> None:
        """Disconnect."""
        await self._channel.close()


async def preload(stack: BenchStack, client: Client, count: int) -> tuple[list[Handle], float]:
    """Enqueue and let the dispatcher admit everything while the worker stands still."""
    cell = Cell(stack.url, stack.settings.server, stack.settings.delivery)
    upkeep, waiting = Upkeep(cell), Waiting(cell)
    start = time.perf_counter()
    handles: list[Handle] = []
    for _ in range(0, count, 500):
        handles += await client.submit_many([{"code": "pass"}] * 500)
    enqueued = time.perf_counter() - start
    while True:
        view = await upkeep.view("warm.python")
        if (view.lag or 0) + view.pending + sum(await waiting.count("warm.python")) >= len(handles):
            break
        await asyncio.sleep(0.01)
    await cell.close()
    return handles, len(handles) / enqueued


async def round_of(stack: BenchStack, client: Client, meter: Meter, worker: int, count: int) -> dict[str, float]:
    """One round of every figure."""
    figures: dict[str, float] = {}
    os.kill(worker, signal.SIGSTOP)
    handles, figures["enqueue batched, per s"] = await preload(stack, client, count)
    before, start = await meter.reads(), time.perf_counter()
    os.kill(worker, signal.SIGCONT)
    await asyncio.gather(*(handle.wait() for handle in handles))
    figures["drain, per s"] = len(handles) / (time.perf_counter() - start)
    figures["round trips saturated"] = (await meter.reads() - before - 1) / len(handles) + 1 / 500
    figures["bare loop, per s"] = await asyncio.to_thread(bare_rate, WORKER_CORE, 600)
    figures["drain / bare loop"] = figures["drain, per s"] / figures["bare loop, per s"]
    start = time.perf_counter()
    burst = await client.submit_many([{"code": "pass"}] * 100)
    await asyncio.gather(*(handle.wait() for handle in burst))
    figures["burst of 100, last result, s"] = time.perf_counter() - start
    before = await meter.reads()
    for _ in range(100):
        await client.run("pass")
    figures["round trips alone"] = (await meter.reads() - before - 1) / 100
    return figures


async def measure(stack: BenchStack, worker: int, rounds: int, count: int) -> dict[str, Spread]:
    """All rounds."""
    rows: list[dict[str, float]] = []
    async with Client(stack.url, settings=stack.settings) as client:
        meter = Meter(stack)
        await client.run("pass", wait_timeout=30)
        for _ in range(rounds):
            rows.append(await round_of(stack, client, meter, worker, count))
        await meter.close()
    return {name: Spread.of(row[name] for row in rows) for name in rows[0]}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n", type=int, default=1500, help="evaluations a drain")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {SERVER_CORE})
    with bench_stack(slots=options.slots, server_core=SERVER_CORE) as stack:
        stack.start("cli.main", "dispatcher")
        worker = stack.start("worker", core=WORKER_CORE)
        figures = asyncio.run(measure(stack, worker.pid, options.rounds, options.n))
    if options.json:
        print(dump({name: [spread.median, spread.low, spread.high] for name, spread in figures.items()}))
        return
    print(
        render(
            ["one worker, core pinned", "median (low..high)", "target", ""], [row(*item) for item in figures.items()]
        )
    )


def row(name: str, spread: Spread) -> list[str]:
    """A line of the table with its verdict."""
    if name not in TARGETS:
        return [name, str(spread), "", ""]
    sign, bound = TARGETS[name]
    met = spread.median >= bound if sign == ">=" else spread.median <= bound
    factor = max(spread.median / bound, bound / spread.median)
    return [name, str(spread), f"{sign} {bound:g}", "met" if met else f"missed by {factor:.2f}x"]


if __name__ == "__main__":
    main()
