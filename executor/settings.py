"""Every setting: its variable, default, unit and meaning, in one place.

The only module that reads the process environment. Settings are frozen values, loaded once by the command line
and handed down. The defaults are tied to docs/operations.md by a test.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from executor.errors import Misconfigured
from executor.keys import DEFAULT_PREFIX

KIB: Final = 1024
MIB: Final = 1024 * 1024

OUTPUT_CEILING: Final = 16
"""A stream may carry this many times `limits.output` before the evaluation ends as `output_limit`."""

ADDRESS_FILE: Final = Path(".executor/url")
"""Where `executor up` leaves the address of its embedded server."""


def setting(variable: str, default: Any, unit: str, meaning: str, *, least: float = 0) -> Any:
    """Declare a field read from one environment variable.

    Args:
        variable: name of the environment variable.
        default: value when it is unset; its type is the field's type.
        unit: shown by `executor config` ("s", "bytes", "" for none).
        meaning: one line for `executor config` and the documentation.
        least: lowest number accepted.
    """
    return field(default=default, metadata={"variable": variable, "unit": unit, "meaning": meaning, "least": least})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the Redis server is and which cell of it is ours."""

    url: str = setting(
        "REDIS_URL",
        "",
        "",
        "redis://, rediss://, unix:// or redis+sentinel:// address; empty: what `executor up` left here",
    )
    prefix: str = setting(
        "EXECUTOR_PREFIX", DEFAULT_PREFIX, "", "first part of every key (a hash tag on a Redis Cluster)"
    )
    connect_timeout: float = setting("EXECUTOR_CONNECT_TIMEOUT", 5.0, "s", "one attempt to connect", least=0.1)
    reply_timeout: float = setting(
        "EXECUTOR_REPLY_TIMEOUT", 10.0, "s", "a command unanswered this long is a lost connection", least=0.1
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What an evaluation gets when its request and the policy say nothing."""

    timeout: float = setting(
        "EXECUTOR_TIMEOUT", 10.0, "s", "wall clock of one attempt; the CPU limit is the same", least=0.001
    )
    max_timeout: float = setting("EXECUTOR_MAX_TIMEOUT", 3600.0, "s", "largest timeout a policy allows", least=0.001)
    memory: int = setting("EXECUTOR_MEMORY", 512 * MIB, "bytes", "resident memory of the process tree", least=16 * MIB)
    processes: int = setting("EXECUTOR_PROCESSES", 64, "", "processes and threads of the tree", least=1)
    output: int = setting(
        "EXECUTOR_OUTPUT", MIB, "bytes", "kept of each of stdout and stderr: head and tail", least=KIB
    )
    scratch: int = setting("EXECUTOR_SCRATCH", 256 * MIB, "bytes", "largest file in the scratch directory", least=MIB)
    code: int = setting("EXECUTOR_CODE", MIB, "bytes", "largest code", least=1)
    request: int = setting("EXECUTOR_REQUEST", 8 * MIB, "bytes", "largest request, all fields together", least=KIB)
    max_attempts: int = setting("EXECUTOR_MAX_ATTEMPTS", 3, "", "attempts before an evaluation is lost", least=1)


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How long things are owned, kept and promised."""

    lease: float = setting(
        "EXECUTOR_LEASE", 15.0, "s", "a claim not renewed this long is given to another worker", least=0.3
    )
    max_age: float = setting(
        "EXECUTOR_MAX_AGE", 86400.0, "s", "longest life of an evaluation from admission to result", least=1
    )
    result_ttl: float = setting(
        "EXECUTOR_RESULT_TTL", 86400.0, "s", "results and duplicate detection after the commit", least=1
    )
    reply_ttl: float = setting(
        "EXECUTOR_REPLY_TTL", 3600.0, "s", "reply and output streams after their last entry", least=1
    )
    credit: int = setting(
        "EXECUTOR_CREDIT", 256, "entries", "of a lane at most, if the policy names none for it; more waits", least=1
    )
    backlog: int = setting(
        "EXECUTOR_BACKLOG",
        100_000,
        "",
        "evaluations of a tenant that have not ended, if the policy says nothing",
        least=1,
    )
    results_cap: int = setting("EXECUTOR_RESULTS_CAP", 100_000, "entries", "length of the results stream", least=1)
    reply_cap: int = setting("EXECUTOR_REPLY_CAP", 10_000, "entries", "length of a reply stream", least=1)
    output_cap: int = setting("EXECUTOR_OUTPUT_CAP", 10_000, "entries", "length of a live output stream", least=1)
    dead_cap: int = setting("EXECUTOR_DEAD_CAP", 10_000, "entries", "length of the dead letter stream", least=1)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One worker process."""

    worker_id: str = setting("EXECUTOR_ID", "", "", "identity (the pod's name); empty: host name and process id")
    mode: str = setting(
        "MODE",
        "warm-pool",
        "",
        "warm-pool: serve until told to stop; one-shot: one evaluation, then exit; agent: one evaluation in the "
        "container beside this one",
    )
    lane: str = setting("EXECUTOR_LANE", "", "", "lane to serve; empty: warm.python, or job.cpu in one-shot mode")
    slots: int = setting("EXECUTOR_SLOTS", 0, "", "evaluations at once; 0: the CPU limit of the container or machine")
    idle_timeout: float = setting("IDLE_TIMEOUT", 0.0, "s", "a warm-pool worker idle this long exits 0; 0: never")
    claim_timeout: float = setting(
        "EXECUTOR_CLAIM_TIMEOUT", 2.0, "s", "a one-shot worker that finds no entry this long exits 0", least=0.01
    )
    grace: float = setting("EXECUTOR_GRACE", 20.0, "s", "SIGTERM to exit: running evaluations may finish this long")
    agent_socket: str = setting(
        "EXECUTOR_AGENT_SOCKET", "/run/executor/agent.sock", "", "where an agent waits for its evaluation container"
    )
    pod_start: float = setting(
        "EXECUTOR_POD_START", 60.0, "s", "claim to the start of the evaluation container", least=0.1
    )
    scratch: str = setting(
        "EXECUTOR_SCRATCH_DIR", "", "", "folder for scratch directories; empty: the system's temporary folder"
    )


@dataclass(frozen=True, slots=True)
class DispatcherSettings:
    """One dispatcher process."""

    dispatcher_id: str = setting("EXECUTOR_DISPATCHER_ID", "", "", "identity; empty: host name and process id")
    policy: str = setting("EXECUTOR_POLICY", "", "", "policy file (YAML); empty: tenant `default`, not trusted")
    batch: int = setting("EXECUTOR_BATCH", 128, "entries", "requests taken from ingress at once", least=1)
    janitor_interval: float = setting(
        "EXECUTOR_JANITOR_INTERVAL", 1.0, "s", "between rescues, trims and lag checks", least=0.05
    )


@dataclass(frozen=True, slots=True)
class AutoscalerSettings:
    """The local autoscaler."""

    manifests: str = setting(
        "EXECUTOR_MANIFESTS", "", "", "kustomization folder; empty: the overlay `local` that is shipped"
    )
    hpa_sync: float = setting(
        "EXECUTOR_HPA_SYNC", 1.0, "s", "period of the 1..n decision (15 s on a cluster)", least=0.1
    )


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Logs, metrics, health and traces of every program."""

    log: str = setting("EXECUTOR_LOG", "", "", "`json` or `text`; empty: text on a terminal, else json")
    log_level: str = setting("EXECUTOR_LOG_LEVEL", "info", "", "debug, info, warning or error")
    health_host: str = setting("EXECUTOR_HEALTH_HOST", "0.0.0.0", "", "address of /healthz, /readyz and /metrics")  # noqa: S104 a pod is probed from outside
    health_port: int = setting("EXECUTOR_HEALTH_PORT", 8083, "", "its port; 0: any free one, -1: none", least=-1)
    traces: str = setting(
        "EXECUTOR_TRACES",
        "none",
        "",
        "span exporter: `none`, a file that gets one JSON line per span, or http(s)://host:4318 (OTLP)",
    )
    traces_sample: float = setting(
        "EXECUTOR_TRACES_SAMPLE",
        1.0,
        "",
        "part of new traces that is recorded, 0 to 1; a caller's own choice is kept",
    )
    jaeger: str = setting(
        "EXECUTOR_JAEGER", "http://127.0.0.1:16686", "", "address of Jaeger's query API, for `executor trace`"
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All groups together."""

    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    delivery: DeliverySettings = DeliverySettings()
    worker: WorkerSettings = WorkerSettings()
    dispatcher: DispatcherSettings = DispatcherSettings()
    autoscaler: AutoscalerSettings = AutoscalerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


Group = TypeVar("Group")


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read every setting.

    Args:
        environ: variables to read; the process environment when None.

    Raises:
        Misconfigured: a value does not parse or is out of range; the message names the variable.
    """
    variables = os.environ if environ is None else environ  # noqa: TID251 the one place that may
    groups: dict[str, Any] = {group.name: _load_group(type(group.default), variables) for group in fields(Settings)}
    settings = Settings(**groups)
    if settings.delivery.max_age > 10 * settings.delivery.result_ttl:
        raise Misconfigured("EXECUTOR_RESULT_TTL: too short beside EXECUTOR_MAX_AGE; duplicates would not be seen")
    return settings


def _load_group(group: type[Group], variables: Mapping[str, str]) -> Group:
    declared: tuple[Field[Any], ...] = fields(group)  # type: ignore[arg-type]
    found = {
        item.name: _parse(item, variables[item.metadata["variable"]])
        for item in declared
        if variables.get(item.metadata["variable"])
    }
    return group(**found)


def _parse(item: Field[Any], text: str) -> Any:
    kind: type = type(item.default)
    variable, least = item.metadata["variable"], item.metadata["least"]
    if kind is str:
        return text
    try:
        value = kind(text)
    except ValueError:
        raise Misconfigured(f"{variable}: {text!r} is not a {'whole number' if kind is int else 'number'}") from None
    if not math.isfinite(value) or value < least:
        raise Misconfigured(f"{variable}: {text} is below {least}, the least that works")
    return value


def described(settings: Settings) -> list[tuple[str, object, object, str, str]]:
    """Rows (variable, value, default, unit, meaning) of every setting, in order."""
    rows = []
    for group in fields(Settings):
        values = getattr(settings, group.name)
        for item in fields(values):
            meta = item.metadata
            rows.append((meta["variable"], getattr(values, item.name), item.default, meta["unit"], meta["meaning"]))
    return rows


def server_url(settings: ServerSettings, start: Path | None = None) -> str:
    """Address of the server: REDIS_URL, else what `executor up` left in this folder or one above.

    Raises:
        Misconfigured: there is neither.
    """
    if settings.url:
        return settings.url
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        try:
            return (folder / ADDRESS_FILE).read_text().strip()
        except OSError:
            continue
    raise Misconfigured("no server: start one with `executor up` in this folder, or set REDIS_URL")


def own_name() -> str:
    """An identity for a process that was given none: host name and process id."""
    return f"{socket.gethostname()}-{os.getpid()}"


def cpu_limit() -> int:
    """Whole CPUs this process may use: the cgroup's quota (v2, then v1) or the affinity mask, at least 1."""
    available = len(os.sched_getaffinity(0))
    quota = _cgroup_quota()
    return max(1, min(available, math.ceil(quota)) if quota else available)


def _cgroup_quota() -> float | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text()
        period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None
