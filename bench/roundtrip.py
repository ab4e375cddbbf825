"""XADD to result on an idle warm pool, beside the Redis floor (four hops) and the bare loop.

python -m bench.roundtrip [--rounds 5] [--n 300] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time

from bench.stack import BenchStack, bare_rate, bench_stack
from bench.table import Spread, dump, percentile, render
from executor.client import Client
from executor.streams.channel import Channel

TARGETS = {"p50": 2.0, "p99": 6.0}
PAUSE = 0.003
"""Seconds between two round trips: the system is idle, and the next child is ready."""


async def trips(client: Client, count: int) -> list[float]:
    """Milliseconds of single evaluations, one after the other."""
    taken = []
    for _ in range(count):
        await asyncio.sleep(PAUSE)
        start = time.perf_counter()
        result = await client.run("pass")
        taken.append((time.perf_counter() - start) * 1000)
        assert result.outcome == "succeeded", result
    return taken


def answer_floor(stack: BenchStack) -> None:
    """The other side of the floor: XREADGROUP, then one script that answers and acknowledges."""

    async def serve() -> None:
        channel = Channel(stack.url, stack.settings.server, "floor")
        script = "redis.call('XACK',KEYS[1],'g',ARGV[1]); redis.call('RPUSH',KEYS[2],ARGV[1]) return 1"
        await channel.call("XGROUP", "CREATE", "floor", "g", "0", "MKSTREAM")
        await channel.call("RPUSH", "floor-ready", "1")
        while True:
            reply = await channel.call(
                "XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "BLOCK", 0, "STREAMS", "floor", ">", patience=3600
            )
            await channel.call("EVAL", script, 2, "floor", "floor-reply", reply[0][1][0][0])

    asyncio.run(serve())


async def floor_trips(stack: BenchStack, count: int) -> list[float]:
    """Milliseconds of XADD, XREADGROUP, script, BLPOP between two processes."""
    channel = Channel(stack.url, stack.settings.server, "floor")
    taken = []
    for _ in range(count):
        await asyncio.sleep(PAUSE)
        start = time.perf_counter()
        await channel.call("XADD", "floor", "*", "k", "v")
        await channel.call("BLPOP", "floor-reply", 10, patience=10)
        taken.append((time.perf_counter() - start) * 1000)
    await channel.close()
    return taken


async def measure(stack: BenchStack, rounds: int, count: int) -> dict[str, list[float]]:
    """All rounds, the systems in turn."""
    figures: dict[str, list[float]] = {name: [] for name in ("p50", "p99", "floor p50", "floor p99", "bare ms")}
    async with Client(stack.url, settings=stack.settings) as client:
        await client.run("pass", wait_timeout=30)
        probe = Channel(stack.url, stack.settings.server, "probe")
        await probe.call("BLPOP", "floor-ready", 10, patience=10)
        await probe.close()
        await trips(client, 50)
        for _ in range(rounds):
            taken = await trips(client, count)
            floor = await floor_trips(stack, count)
            for name, percent in (("p50", 50), ("p99", 99)):
                figures[name].append(percentile(taken, percent))
                figures[f"floor {name}"].append(percentile(floor, percent))
            figures["bare ms"].append(1000 / await asyncio.to_thread(bare_rate, None, 300))
    return figures


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n", type=int, default=300, help="round trips a round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with bench_stack() as stack:
        stack.start("cli.main", "dispatcher")
        stack.start("worker")
        floor = multiprocessing.get_context("fork").Process(target=answer_floor, args=(stack,), daemon=True)
        floor.start()
        figures = asyncio.run(measure(stack, options.rounds, options.n))
        floor.kill()
    spreads = {name: Spread.of(values) for name, values in figures.items() if values}
    if options.json:
        print(dump({name: vars_of(spread) for name, spread in spreads.items()}))
        return
    rows = [
        [f"XADD -> result, {name}", f"{spreads[name]} ms", f"<= {TARGETS[name]:g} ms", _verdict(spreads[name], name)]
        for name in TARGETS
    ]
    rows += [[f"Redis floor, {name}", f"{spreads[f'floor {name}']} ms", "", ""] for name in TARGETS]
    rows.append(["bare loop", f"{spreads['bare ms']} ms", "", ""])
    print(render(["idle warm pool, fresh child", "median (low..high)", "target", ""], rows))


def vars_of(spread: Spread) -> dict[str, float]:
    """A spread as plain values."""
    return {"median": spread.median, "low": spread.low, "high": spread.high}


def _verdict(spread: Spread, name: str) -> str:
    return "met" if spread.median <= TARGETS[name] else f"missed by {spread.median / TARGETS[name]:.2f}x"


if __name__ == "__main__":
    main()
