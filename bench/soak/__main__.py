"""Ten minutes at half of capacity, open loop: latencies from the scheduled arrival, and whether everything stays flat.

First a closed loop finds the capacity, then arrivals come at random instants (Poisson), whatever is still open. What
the server keeps for callers is kept for seconds instead of a day (EXECUTOR_RESULT_TTL, EXECUTOR_REPLY_TTL,
EXECUTOR_MAX_AGE, EXECUTOR_RESULTS_CAP), so that what a growing run shows is growth and not retention. Exits 1 if
something is not flat: see bench/soak/flat.py for the rule.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bench.soak.load import OpenLoop, capacity
from bench.soak.mix import Mix
from bench.soak.report import Findings, heading, line
from bench.soak.sample import Sampler
from bench.stack import BenchStack, bench_stack
from bench.table import dump
from executor.client import Client

EXAMPLE = """\
example:
  python -m bench.soak --minutes 2 --json > soak.json
"""
SAMPLE_SECONDS = 2.0
STILL_SECONDS = 5.0
"""A machine that stood still for longer than this (a suspended guest) has measured nothing."""
AT_ONCE = 16
"""Evaluations in flight while the capacity is looked for."""
PASSING = ("eval", "result", "output", "reply", "once")
"""First words of keys that go by themselves."""
SPARE_SECONDS = 15.0
"""How much longer than promised a key may stay."""


class Soak:
    """One run on one stack."""

    def __init__(self, stack: BenchStack, client: Client, sampler: Sampler) -> None:
        self._client = client
        self._sampler = sampler
        self._mix = Mix()
        delivery = stack.settings.delivery
        self._longest_ttl = max(delivery.max_age + delivery.result_ttl, delivery.reply_ttl)

    async def run(self, minutes: float, share: float, capacity_seconds: float) -> Findings:
        """Find the capacity, load the system with a share of it, and see that all is as before."""
        await self._client.run("pass", wait_timeout=60)
        await capacity(self._client, self._mix, capacity_seconds / 4, AT_ONCE)  # what is slow the first time
        await self._sampler.find_streams()
        most = await capacity(self._client, self._mix, capacity_seconds, AT_ONCE)
        _say(f"capacity {most:.0f} evaluations per s; waiting until what they left has expired")
        kept_before = set(await self._wait_until_expired())
        before = await self._sampler.take()
        server = await self._sampler.server()
        findings = Findings(server, most, most * share, min(self._longest_ttl, 20 * minutes), before)
        load = OpenLoop(self._client, self._mix, findings.rate)
        await self._soak(load, findings, minutes * 60)
        lost = await load.finish()
        _say("waiting until what it left has expired")
        findings.kept = sorted(set(await self._wait_until_expired()) - kept_before)
        findings.after = await self._sampler.take()
        findings.minutes = load.minutes
        findings.faults = {
            "results never came": lost,
            "results with a wrong outcome": load.wrong,
            "requests could not be sent": load.refused,
            f"times the machine stood still for more than {STILL_SECONDS:g} s": self._standstills(findings),
        }
        return findings

    async def _soak(self, load: OpenLoop, findings: Findings, seconds: float) -> None:
        self._sampler.samples.clear()
        sampling = asyncio.create_task(self._sampler.keep_taking(SAMPLE_SECONDS))
        showing = asyncio.create_task(self._show(load))
        await load.run(seconds)
        for task in (sampling, showing):
            task.cancel()
        await asyncio.wait([sampling, showing])
        findings.samples = [(at - load.start, sample) for at, sample in self._sampler.samples]

    @staticmethod
    def _standstills(findings: Findings) -> int:
        instants = [at for at, _ in findings.samples]
        return sum(late - early > SAMPLE_SECONDS + STILL_SECONDS for early, late in pairwise(instants))

    async def _show(self, load: OpenLoop) -> None:
        """A line for each minute that is over."""
        _say(heading())
        index = 0
        while True:
            await asyncio.sleep(60)  # a minute is what a line is about
            of_minute = [sample for at, sample in self._sampler.samples if at >= load.start + index * 60]
            _say(line(index, load, load.minutes[index], of_minute))
            index += 1

    async def _wait_until_expired(self) -> list[str]:
        """Wait until no key is left that goes by itself; returns those that are left all the same."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + self._longest_ttl + SPARE_SECONDS
        while True:
            passing = [
                key for key in await self._sampler.keys() if key.split(":")[1:2] and key.split(":")[1] in PASSING
            ]
            if not passing or loop.time() > limit:
                return passing
            await asyncio.sleep(1)  # until they have expired, which is the condition


async def measure(
    stack: BenchStack, dispatcher: int, worker: int, scratch: Path, options: argparse.Namespace
) -> Findings:
    """Run it on a stack whose programs have been started."""
    sampler = Sampler(stack, dispatcher, worker, scratch)
    async with Client(stack.url, settings=stack.settings) as client:
        findings = await Soak(stack, client, sampler).run(options.minutes, options.share, options.capacity_seconds)
    await sampler.close()
    return findings


def main(argv: Sequence[str] | None = None) -> None:
    """Print the lines and tables; exit 1 if something is not flat."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # ends the programs as Ctrl-C does
    with tempfile.TemporaryDirectory(prefix="bench-soak-") as scratch:
        variables = {
            "EXECUTOR_SCRATCH_DIR": scratch,
            "EXECUTOR_RESULT_TTL": str(options.ttl),
            "EXECUTOR_REPLY_TTL": str(options.ttl),
            "EXECUTOR_MAX_AGE": str(options.ttl),
            "EXECUTOR_RESULTS_CAP": "500",
            "EXECUTOR_REPLY_CAP": "500",
        }
        with bench_stack(slots=options.slots, aof=True, url=options.url, variables=variables) as stack:
            dispatcher = stack.start("cli.main", "dispatcher")
            worker = stack.start("worker")
            findings = asyncio.run(measure(stack, dispatcher.pid, worker.pid, Path(scratch), options))
    if options.json:
        print(dump({**findings.document(), "settings": variables}))
    else:
        print(findings.text())
    sys.exit(1 if findings.troubles() else 0)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the open loop (default: %(default)s)")
    parser.add_argument("--share", type=float, default=0.5, help="of the capacity (default: %(default)s)")
    parser.add_argument("--slots", type=int, default=2, help="of the one worker (default: %(default)s)")
    parser.add_argument("--ttl", type=float, default=30.0, help="how long anything is kept, s (default: %(default)s)")
    parser.add_argument(
        "--capacity-seconds", type=float, default=20.0, help="length of the closed loop (default: %(default)s)"
    )
    parser.add_argument("--url", default="", help="of a server that holds nothing, instead of the embedded one")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(argv)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
