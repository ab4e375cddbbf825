"""`executor up`: server, dispatcher and autoscaler in one process tree, workers from zero."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.batch import Batch, read_rows
from cli.embedded import EmbeddedServer, address_left
from cli.fleet import LocalFleet, with_url
from dispatcher.policy import load_policy, trusting_policy
from dispatcher.service import Dispatcher
from dispatcher.surroundings import Surroundings
from executor.client import Client
from executor.errors import Misconfigured, TransientError
from executor.settings import Settings
from executor.streams.probe import Probe
from executor.streams.server import Cell, close_quietly
from keda.autoscaler import ScaleEvent

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "batch.jsonl"

_NEXT = """
Everything runs and waits at zero workers. In another terminal, in this folder:

  .venv/bin/executor submit -c 'print(6*7)'            one evaluation, from zero
  .venv/bin/executor batch examples/batch.jsonl --out results.jsonl
  .venv/bin/executor lanes                             what is queued and who works
  .venv/bin/executor redis XADD executor:requests '*' code 'print(6*7)'

Ctrl-C here ends everything.
"""


def up(settings: Settings, *, data: Path | None, demo: bool, as_json: bool) -> None:
    """Run until Ctrl-C or SIGTERM; nothing is left behind but `data`."""
    console = Console(stderr=True)
    # Until the loop takes the signals over, SIGTERM unwinds as Ctrl-C does: what is made here is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        if not settings.server.url:
            if data is not None:
                _make(data)
            server = EmbeddedServer(data.resolve() if data else None)
            stack.callback(server.close)
            stack.enter_context(address_left(server.url))
            settings = with_url(settings, server.url)
            around = Surroundings(forgets=data is None)
            console.print("[bold]server[/]      embedded Valkey, address in .executor/url")
        elif data is not None:
            raise Misconfigured("--data: keeps the embedded server's data; REDIS_URL names a server of its own")
        else:
            asyncio.run(_look_at_server(settings))
            around = Surroundings()
        if settings.telemetry.health_port == 8083:
            settings = replace(settings, telemetry=replace(settings.telemetry, health_port=0))
        asyncio.run(_run(settings, around, console, demo=demo, as_json=as_json))


def _make(data: Path) -> None:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"--data: {data}: {error.strerror}; name a folder that can be made") from error


async def _look_at_server(settings: Settings) -> None:
    """End at once where a person has to do something; a server that is away now is waited for."""
    cell = Cell(settings.server.url, settings.server, settings.delivery)
    try:
        await Probe(cell.channel("up"), cell.keys.prefix).look()
    except TransientError:
        pass
    finally:
        await close_quietly(cell)


async def _run(settings: Settings, around: Surroundings, console: Console, *, demo: bool, as_json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    policy = load_policy(settings.dispatcher.policy) if settings.dispatcher.policy else trusting_policy()
    dispatcher = Dispatcher(settings, policy, around)
    fleet = LocalFleet(settings, lambda event: _show(console, event, as_json=as_json))
    parts = [asyncio.create_task(dispatcher.run(), name="dispatcher"), asyncio.create_task(fleet.run(), name="fleet")]
    stopping = asyncio.create_task(stop.wait(), name="stop")
    waits: list[asyncio.Task[Any]] = [stopping, asyncio.create_task(dispatcher.ready.wait(), name="ready")]
    try:
        await asyncio.wait([*parts, *waits], return_when=asyncio.FIRST_COMPLETED)
        if dispatcher.ready.is_set():
            console.print("[bold]dispatcher[/]  reads executor:requests; [bold]workers[/] 0")
        if demo and not stop.is_set():
            waits.append(asyncio.create_task(_demonstrate(settings, fleet, console), name="demo"))
        elif dispatcher.ready.is_set() and not stop.is_set():
            console.print(_NEXT, soft_wrap=True)
        done, _ = await asyncio.wait([*parts, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in [*waits, parts[1]]:
            task.cancel()
        dispatcher.stop()
        await asyncio.wait([*waits, *parts])
        with suppress(asyncio.CancelledError):
            parts[0].result()


def _show(console: Console, event: ScaleEvent, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: getattr(event, name) for name in event.__slots__}), flush=True)  # noqa: T201
        return
    arrow = "[green]↑[/]" if event.after > event.before else "[yellow]↓[/]"
    demand = f"lag {'?' if event.lag is None else event.lag}, pending {event.pending}"
    console.print(f"[bold]scale[/]       {event.name} {event.before} {arrow} {event.after}   {demand}   {event.reason}")


async def _demonstrate(settings: Settings, fleet: LocalFleet, console: Console) -> None:
    rows = read_rows(EXAMPLE)
    console.print(f"[bold]batch[/]       {len(rows)} evaluations of examples/batch.jsonl, from zero workers")
    async with Client(settings=settings) as client:
        batch = Batch(rows)
        await batch.run(client, lambda result: None)
    console.print(f"[bold]results[/]     {batch.summary()}", soft_wrap=True)
    while any(fleet.processes.replicas(lane) for lane in ("warm.python", "job.cpu")):  # noqa: ASYNC110
        await asyncio.sleep(0.1)  # processes have no event that says how many are left
    console.print("[bold]workers[/]     back to zero")
    console.print(_NEXT, soft_wrap=True)


async def autoscale(settings: Settings, *, as_json: bool) -> None:
    """The autoscaler alone, beside programs started by other means."""
    console = Console(stderr=True)
    fleet = LocalFleet(settings, lambda event: _show(console, event, as_json=as_json))
    running = asyncio.create_task(fleet.run(), name="fleet")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    console.print("[bold]autoscaler[/]  follows the lanes of its manifests; Ctrl-C ends it and its workers")
    with suppress(asyncio.CancelledError):
        await running
