"""What a trace costs an evaluation: the drain of one worker with no exporter, 10 % of the traces, and all of them.

A stack for each, the rounds interleaved; the collector is a process that reads and answers. Server, dispatcher,
producer and collector share core 0, the workers and their children have core 1.

    python -m bench.tracing [--rounds 7] [--n 1500] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.stack import SERVER_CORE, WORKER_CORE, BenchStack, bench_stack
from bench.table import Spread, dump, render
from bench.throughput import preload
from executor.client import Client

TARGET = 0.95
COLUMNS = {"no exporter": None, "10 % sampled": "0.1", "all sampled": "1"}
COLLECTOR = """
import http.server
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
print(server.server_port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A stack with its worker."""

    stack: BenchStack
    client: Client
    worker: int


@contextmanager
def collector() -> Iterator[str]:
    """The address of something that takes spans."""
    command = [sys.executable, "-c", COLLECTOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


def subject(stack: BenchStack, url: str, sample: str | None) -> Subject:
    """Start the programs; the client has no exporter, so that the dispatcher decides what is sampled."""
    if sample is not None:
        stack.environ |= {"EXECUTOR_TRACES": url, "EXECUTOR_TRACES_SAMPLE": sample}
    stack.start("cli.main", "dispatcher")
    worker = stack.start("worker", core=WORKER_CORE)
    return Subject(stack, Client(stack.url, settings=stack.settings), worker.pid)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process without its children (proc(5), stat fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def drain(one: Subject, count: int) -> tuple[float, float]:
    """Evaluations per second of a worker that has all its work before it, and its own CPU time for each, us.

    The rate is what counts; the CPU time, which has everything that tracing does there, hears less of its neighbours.
    """
    os.kill(one.worker, signal.SIGSTOP)
    handles, _ = await preload(one.stack, one.client, count)
    start, used = time.perf_counter(), cpu_seconds(one.worker)
    os.kill(one.worker, signal.SIGCONT)
    await asyncio.gather(*(handle.wait() for handle in handles))
    rate = len(handles) / (time.perf_counter() - start)
    await asyncio.sleep(1)  # its exporter catches up
    return rate, 1e6 * (cpu_seconds(one.worker) - used) / len(handles)


async def measure(stacks: dict[str, tuple[BenchStack, str | None]], url: str, rounds: int, count: int) -> list[Row]:
    """Every column in every round."""
    subjects = {name: subject(stack, url, sample) for name, (stack, sample) in stacks.items()}
    rows: list[Row] = []
    for one in subjects.values():
        await one.client.run("pass", wait_timeout=30)
        await drain(one, 500)
    for number in range(rounds):
        order = list(subjects.items())
        shift = number % len(order)
        rows.append({name: await drain(one, count) for name, one in order[shift:] + order[:shift]})
    for one in subjects.values():
        await one.client.close()
    return rows


Row = dict[str, tuple[float, float]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--n", type=int, default=1500, help="evaluations a drain, in hundreds of five")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {SERVER_CORE})
    with ExitStack() as opened:
        url = opened.enter_context(collector())
        stacks = {
            name: (opened.enter_context(bench_stack(slots=options.slots, server_core=SERVER_CORE)), sample)
            for name, sample in COLUMNS.items()
        }
        rows = asyncio.run(measure(stacks, url, options.rounds, options.n))
    plain = next(iter(COLUMNS))
    rates = {name: Spread.of(row[name][0] for row in rows) for name in COLUMNS}
    ratios = {name: Spread.of(row[name][0] / row[plain][0] for row in rows) for name in COLUMNS}
    times = {name: Spread.of(row[name][1] for row in rows) for name in COLUMNS}
    if options.json:
        figures = {"per s": rates, "ratio": ratios, "own CPU, us": times}
        print(dump({name: {title: found[name].median for title, found in figures.items()} for name in COLUMNS}))
        return
    print(
        render(
            ["drain of one worker", "per s (low..high)", "own CPU, us each", "ratio (low..high)", "target", ""],
            [
                [name, str(rates[name]), str(times[name]), str(ratios[name]), *verdict(name, ratios[name])]
                for name in COLUMNS
            ],
        )
    )


def verdict(name: str, ratio: Spread) -> list[str]:
    """Only the sampled column has a target."""
    if COLUMNS[name] != "0.1":
        return ["", ""]
    return [f">= {TARGET:g}", "met" if ratio.median >= TARGET else f"missed by {TARGET / ratio.median:.2f}x"]


if __name__ == "__main__":
    main()
