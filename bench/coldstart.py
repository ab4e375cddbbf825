"""From nothing: worker process start to its first claim, and XADD at zero workers to the result.

python -m bench.coldstart [--rounds 10] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time

from bench.stack import BenchStack, bench_stack
from bench.table import Spread, dump, render
from cli.fleet import LocalFleet
from executor.client import Client

TARGETS = {"process start -> first claim, ms": 400.0}


async def first_claim(stack: BenchStack, client: Client) -> float:
    """Milliseconds from starting the process to the claim of work that was waiting, by the result's own queue time."""
    handle = await client.submit("pass")
    while (await client.state(handle.id)).get("state") != "queued":
        await asyncio.sleep(0.001)
    started = time.perf_counter()
    worker = stack.start("worker")
    while (await client.state(handle.id)).get("state") == "queued":
        await asyncio.sleep(0.001)
    claimed = time.perf_counter()
    await handle.wait()
    worker.terminate()
    await asyncio.to_thread(worker.wait)
    return (claimed - started) * 1000


async def from_zero(
    stack: BenchStack, client: Client, rounds: int, lane: str = "warm.python", **fields: float
) -> list[float]:
    """Milliseconds from XADD to the result with the local autoscaler at zero.

    Args:
        stack: server and dispatcher.
        client: submits.
        rounds: how often.
        lane: that the evaluations are routed to.
        fields: of the request, that make it be.
    """
    fleet = LocalFleet(stack.settings, lambda event: None)
    running = asyncio.create_task(fleet.run())
    taken = []
    for number in range(rounds):
        while fleet.processes.replicas(lane):
            await asyncio.sleep(0.05)
        await asyncio.sleep(number / rounds)  # spread over the polling interval
        start = time.perf_counter()
        await client.run("pass", **fields)
        taken.append((time.perf_counter() - start) * 1000)
        print(f"  {lane} from zero: {taken[-1]:.0f} ms", file=sys.stderr)
    running.cancel()
    await asyncio.wait([running])
    return taken


async def measure(stack: BenchStack, rounds: int) -> dict[str, Spread]:
    """All figures."""
    async with Client(stack.url, settings=stack.settings) as client:
        claims = [await first_claim(stack, client) for _ in range(rounds)]
        zero = await from_zero(stack, client, rounds)
        job = await from_zero(stack, client, rounds, "job.cpu", expected_duration=60.0)
    return {
        "process start -> first claim, ms": Spread.of(claims),
        "XADD at zero -> result, polling 1 s, warm pool, ms": Spread.of(zero),
        "XADD at zero -> result, polling 1 s, one-shot, ms": Spread.of(job),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with bench_stack() as stack:
        os.environ.update(stack.environ)  # noqa: TID251 the fleet hands its own environment to its workers
        stack.start("cli.main", "dispatcher")
        figures = asyncio.run(measure(stack, options.rounds))
    if options.json:
        print(dump({name: [spread.median, spread.low, spread.high] for name, spread in figures.items()}))
        return
    rows = []
    for name, spread in figures.items():
        bound = TARGETS.get(name)
        verdict = (
            "" if bound is None else "met" if spread.median <= bound else f"missed by {spread.median / bound:.2f}x"
        )
        rows.append([name, str(spread), f"<= {bound:g}" if bound else "", verdict])
    print(render(["from nothing", "median (low..high)", "target", ""], rows))


if __name__ == "__main__":
    main()
