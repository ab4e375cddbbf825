"""The `executor` command: every program and tool of the project behind one name."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cli import exits
from cli.dead import dead
from executor.errors import ExecutorError, InvalidField
from executor.settings import Settings, load

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Run code evaluations as events: XADD a request, get one result, scaled from zero.\n\n"
    + "Exit codes: "
    + "; ".join(f"{code} {meaning}" for code, meaning in exits.TABLE.items()),
)

app.add_typer(dead, name="dead")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Tenant = Annotated[str, typer.Option(help="Whose ingress stream is used.")]


def main() -> None:
    """Entry point: errors of the platform become one line on stderr and an exit code that means something."""
    try:
        app()
    except ExecutorError as error:
        print(f"executor: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(exits.code_for(error))
    except BaseExceptionGroup as group:
        found = exits.cause(group)
        if found is None:
            raise
        print(f"executor: {found}", file=sys.stderr)  # noqa: T201
        sys.exit(exits.code_for(found))
    except KeyboardInterrupt:
        sys.exit(exits.INTERRUPTED)


def _command(example: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return app.command(epilog=f"Example:  [bold]{example}[/]")


def _say(value: Any, text: str, *, as_json: bool) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str) if as_json else text)  # noqa: T201


@_command("executor up --demo")
def up(
    demo: Annotated[bool, typer.Option(help="Submit the example batch and show the scaling.")] = False,
    data: Annotated[Path | None, typer.Option(help="Keep the embedded server's data in this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Start everything on this machine: server (embedded unless REDIS_URL is set), dispatcher, autoscaler."""
    from cli.up import up as start
    from executor.logs import set_up

    settings = load()
    set_up(settings.telemetry)
    start(settings, data=data, demo=demo, as_json=as_json)


@_command("EXECUTOR_POLICY=policy.yaml executor dispatcher")
def dispatcher(as_json: Annotated[bool, typer.Option("--json", help="Log JSON lines.")] = False) -> None:
    """Run one dispatcher: validate, authorize and route requests; rescue what dies."""
    from cli.surroundings import of_this_process
    from dispatcher.policy import load_policy
    from dispatcher.service import Dispatcher

    settings = _program(as_json)

    async def serve() -> None:
        program = Dispatcher(settings, load_policy(settings.dispatcher.policy), of_this_process())
        program.stop_on_signals()
        await program.run()

    asyncio.run(serve())


@_command("executor worker --lane warm.python --slots 2")
def worker(
    lane: Annotated[str, typer.Option(help="Lane to serve.")] = "",
    slots: Annotated[int, typer.Option(help="Evaluations at once; 0: the CPU limit.")] = 0,
    one_shot: Annotated[bool, typer.Option("--one-shot", help="Claim one entry, run it, exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Log JSON lines.")] = False,
) -> None:
    """Run one worker (`python -m worker` starts sooner: it imports no command line)."""
    from dataclasses import replace

    from worker.__main__ import main as run

    settings = _program(as_json)
    own = settings.worker
    mode = "one-shot" if one_shot else own.mode
    own = replace(own, lane=lane or own.lane, slots=slots or own.slots, mode=mode)
    raise typer.Exit(run(replace(settings, worker=own)))


@_command("executor autoscaler")
def autoscaler(as_json: Json = False) -> None:
    """Run the local autoscaler: KEDA's formulas on worker processes, from the manifests in keda/overlays/local."""
    from cli.up import autoscale

    asyncio.run(autoscale(_program(False), as_json=as_json))


@_command("executor submit -c 'print(6*7)'")
def submit(
    file: Annotated[Path | None, typer.Argument(help="Python file; `-` for standard input.")] = None,
    code: Annotated[str | None, typer.Option("-c", help="Code itself.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds it may run.")] = None,
    stdin: Annotated[Path | None, typer.Option(help="File that becomes its standard input.")] = None,
    evaluation_id: Annotated[str | None, typer.Option("--id", help="Name it yourself.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the result; --no-wait prints the id.")] = True,
    wait_timeout: Annotated[float | None, typer.Option(help="Seconds to wait; it goes on running.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show output as it comes.")] = False,
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Submit one evaluation: a file, -c CODE, or standard input."""
    from cli.evaluations import submit_one

    if (file is None) == (code is None) and not (file is None and not sys.stdin.isatty()):
        raise InvalidField("code", "give a FILE, -c CODE, or code on standard input, and only one of them")
    source = code if code is not None else _read_source(file)
    fields: dict[str, Any] = {"code": source, "timeout": timeout, "id": evaluation_id, "stream": stream or None}
    if stdin is not None:
        fields["stdin"] = _read_bytes(stdin)
    fields = {name: value for name, value in fields.items() if value is not None}
    raise typer.Exit(_with_client(tenant, lambda client: submit_one(client, fields, wait, wait_timeout, as_json)))


@_command("executor batch examples/batch.jsonl --out results.jsonl")
def batch(
    file: Annotated[Path, typer.Argument(help="JSONL: one object per line, `id`, `code` or any request field.")],
    out: Annotated[Path, typer.Option(help="JSONL file that gets one result per line, as they come.")],
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Run a file of evaluations. `expect` (an outcome) is compared, not sent. Ctrl-C keeps what is done."""
    from cli.evaluations import run_batch

    if out.resolve() == file.resolve():
        raise InvalidField("--out", f"{out} is the batch itself; name another file")
    raise typer.Exit(_with_client(tenant, lambda client: run_batch(client, file, out, as_json)))


@_command("executor result 1700000000000-0")
def result(evaluation_id: str, tenant: Tenant = "default", as_json: Json = False) -> None:
    """Print the result of an evaluation, or where it stands."""
    from cli.evaluations import show_result

    raise typer.Exit(_with_client(tenant, lambda client: show_result(client, evaluation_id, as_json)))


@_command("executor cancel 1700000000000-0")
def cancel(evaluation_id: str, tenant: Tenant = "default", as_json: Json = False) -> None:
    """Take an evaluation back, queued or running."""
    from cli.evaluations import cancel_one

    raise typer.Exit(_with_client(tenant, lambda client: cancel_one(client, evaluation_id, as_json)))


@_command("executor trace 1700000000000-0")
def trace(
    evaluation_id: str,
    file: Annotated[
        Path | None, typer.Option("--file", help="Read the spans in this file (EXECUTOR_TRACES) instead of Jaeger.")
    ] = None,
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Show where an evaluation's time went: its phases as Jaeger has them, and gaps that none explains."""
    from cli.trace import show_trace

    raise typer.Exit(asyncio.run(show_trace(load(), evaluation_id, tenant, file, as_json=as_json)))


@_command("executor lanes")
def lanes(as_json: Json = False) -> None:
    """Show each lane: lag, pending, workers, and the age of its oldest entry."""
    from cli.views import show_lanes

    raise typer.Exit(asyncio.run(show_lanes(load(), as_json=as_json)))


@_command("executor doctor --namespace executor-system")
def doctor(
    cluster: Annotated[
        bool, typer.Option("--cluster/--no-cluster", help="Examine the cluster of KUBECONFIG too, if there is one.")
    ] = True,
    namespace: Annotated[str, typer.Option(help="Where the KEDA objects and workers are.")] = "executor-system",
    as_json: Json = False,
) -> None:
    """Examine the cell and its scaling: what was seen, why it matters, what to do.

    Exit code 0: no errors (warnings are allowed); 1: errors were found; 2, 3, 4: it could not be examined, because
    there is no address, no answer, or the credentials are refused.
    """
    from cli.doctor import examine

    raise typer.Exit(asyncio.run(examine(load(), cluster=cluster, namespace=namespace, as_json=as_json)))


@_command("executor config")
def config(as_json: Json = False) -> None:
    """Show every setting: variable, value, default, unit, meaning. Passwords are hidden."""
    from cli.views import show_config

    show_config(load(), as_json=as_json)


@app.command(
    "redis",
    context_settings={"ignore_unknown_options": True},
    epilog="Example:  [bold]executor redis XADD executor:requests '*' code 'print(6*7)'[/]",
)
def redis_prompt(
    command: Annotated[list[str] | None, typer.Argument(help="One command; none: a prompt.")] = None,
    as_json: Json = False,
) -> None:
    """Open a prompt on the server (the embedded one, or REDIS_URL), or send one command."""
    from cli.views import redis

    raise typer.Exit(asyncio.run(redis(load(), command or [], as_json=as_json)))


def _program(as_json: bool) -> Settings:
    from dataclasses import replace

    from executor.logs import set_up

    settings = load()
    set_up(replace(settings.telemetry, log="json") if as_json else settings.telemetry)
    return settings


def _with_client(tenant: str, use: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    from executor.client import Client

    async def run() -> int:
        async with Client(tenant=tenant) as client:
            return await use(client)

    return asyncio.run(run())


def _read_source(file: Path | None) -> str:
    raw = sys.stdin.buffer.read() if file is None or str(file) == "-" else _read_bytes(file)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidField("code", f"not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}") from None


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidField("FILE", f"{file}: {error.strerror}") from None


if __name__ == "__main__":
    main()
