"""`executor doctor`: looks at the cell and at the cluster, and says what is wrong and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from cli import exits
from executor.errors import ExecutorError, Misconfigured
from executor.settings import Settings, server_url
from executor.streams.inspection import Inspector as CellInspector
from executor.streams.server import Cell, close_quietly
from k8s.cluster import connect
from k8s.inspection import Inspector as ClusterInspector
from keda.doctor.cluster import judge_cluster
from keda.doctor.finding import Finding, Severity, error, ok
from keda.doctor.happenings import judge_happenings
from keda.doctor.scaling import judge_scaling, lane_pairs
from keda.doctor.server import judge_server

_COLORS = {Severity.OK: "green", Severity.WARN: "yellow", Severity.ERROR: "red"}


async def examine(settings: Settings, *, cluster: bool, namespace: str, as_json: bool) -> int:
    """Print every finding; the exit code says the worst of it.

    Returns:
        0 without errors, 1 with; when something could not be examined, what another command would say of it:
        3 the server or the API server cannot be reached, 4 the credentials are refused, 2 there is no address.
    """
    findings: list[Finding] = []
    codes: list[int] = []
    pairs: list[tuple[str, str]] = []
    if cluster:
        around, pairs, code = _cluster(namespace)
        findings += around
        codes.append(code)
    inside, code = await _cell(settings, pairs)
    codes.append(code)
    findings = [*inside, *findings]
    _print(findings, as_json=as_json)
    failed = any(one.severity is Severity.ERROR for one in findings)
    return max(codes) or (exits.NOT_AS_HOPED if failed else exits.OK)


def _cluster(namespace: str) -> tuple[list[Finding], list[tuple[str, str]], int]:
    try:
        api = connect()
    except Misconfigured as problem:
        return [ok("cluster", f"not examined: {problem}")], [], exits.OK
    facts = ClusterInspector(api, namespace).collect()
    if "error" in facts:
        refused = facts["status"] in {401, 403}
        return judge_cluster(facts), [], exits.NOT_ALLOWED if refused else exits.SERVER_AWAY
    findings = [*judge_cluster(facts), *judge_scaling(facts), *judge_happenings(facts, datetime.now(UTC))]
    return findings, lane_pairs(facts), exits.OK


async def _cell(settings: Settings, pairs: list[tuple[str, str]]) -> tuple[list[Finding], int]:
    cell = None
    try:
        cell = Cell(server_url(settings.server), settings.server, settings.delivery)
        facts: dict[str, Any] = await CellInspector(cell).collect(pairs)
    except ExecutorError as problem:
        why = "nothing of the cell can be seen"
        forward = "kubectl -n executor-system port-forward svc/executor-redis 6379"
        act = f"executor config shows REDIS_URL; in a cluster, first: {forward}"
        return [error("server", str(problem), why, act)], exits.code_for(problem)
    finally:
        if cell is not None:
            await close_quietly(cell)
    return judge_server(facts), exits.OK


def _print(findings: list[Finding], *, as_json: bool) -> None:
    counts = {severity.value: sum(one.severity is severity for one in findings) for severity in Severity}
    if as_json:
        print(json.dumps({"findings": [asdict(one) for one in findings], **counts}, ensure_ascii=False))  # noqa: T201
        return
    console = Console(soft_wrap=True, highlight=False)
    for one in findings:
        color = _COLORS[one.severity]
        console.print(f"[{color}]{one.severity:<6}[/] [bold]{escape(one.about)}[/]: {escape(one.seen)}")
        for word, text in (("why", one.why), ("do", one.act)):
            if text:
                console.print(f"         [dim]{word:<4}[/] {escape(text)}")
    console.print(f"{counts['error']} errors, {counts['warn']} warnings, {counts['ok']} ok")
