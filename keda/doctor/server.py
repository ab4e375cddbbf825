"""Judges a cell: the server under it, its streams, and who reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from executor.fitness import faults, flavour, forgets
from keda.doctor.finding import Finding, error, ok, warn

_FULL: Final = 0.8
_READS: Final = 15_000
"""A dispatcher asks at least every two seconds; one that has not for this long, ms, is gone or hangs."""
_ASKED: Final = "`executor redis` opens a prompt"


def judge_server(facts: dict[str, Any]) -> list[Finding]:
    """Every finding about a cell, from what `executor.streams.inspection` collected."""
    found = [*_refusals(facts["refused"]), *_user(facts["user"])]
    if facts["info"]:
        found += [error(one.about, one.seen, one.why, one.act) for one in faults(facts["info"], facts["prefix"])]
        found += [*_version(facts["info"]), *_persistence(facts), *_memory(facts["info"]), *_role(facts["info"])]
    if "SCAN" not in facts["refused"] and not any(
        view["kind"] == "ingress" and view["exists"] for view in facts["streams"]
    ):
        found.append(
            warn(
                "ingress",
                f"no request stream under the prefix {facts['prefix']!r}",
                "no dispatcher has ever run in this cell, or EXECUTOR_PREFIX names another one",
                "executor dispatcher",
            )
        )
    for view in facts["streams"]:
        if not (view["kind"] == "ingress" and not view["exists"]):
            found += _stream(view, facts)
    return [*found, *_dead(facts["dead"]), *_immortal(facts)]


def _refusals(refused: dict[str, str]) -> Iterator[Finding]:
    if refused:
        commands = ", ".join(sorted(refused))
        yield warn(
            "access",
            f"could not look at everything: {commands}: {next(iter(refused.values()))}",
            "what is not looked at may be wrong",
            "give the user +@read +ping +info +scan +config|get +acl|whoami on the cell's keys (ACL SETUSER)",
        )


def _user(user: str) -> Iterator[Finding]:
    if user == "default":
        yield ok("access", "connected as the user default, which usually may do everything")
    elif user:
        yield ok("access", f"connected as the user {user}")


def _version(info: dict[str, str]) -> Iterator[Finding]:
    name, found, least = flavour(info)
    if not found:
        yield warn("server", "its version is not told", "Redis >= 7.0 or Valkey is needed", _ASKED)
    elif found >= least:
        yield ok("server", f"{name} {info.get('valkey_version') or info['redis_version']}")


def _persistence(facts: dict[str, Any]) -> Iterator[Finding]:
    info, sync = facts["info"], facts["appendfsync"]
    if "aof_enabled" not in info:
        return
    if forgets(info):
        yield warn(
            "persistence",
            "the append-only file is off",
            "a restart of the server forgets every accepted request, and the groups with them",
            "executor redis CONFIG SET appendonly yes, and the same in its configuration; "
            "the embedded server: executor up --data DIR",
        )
        return
    if info.get("aof_last_write_status", "ok") != "ok":
        yield error(
            "persistence",
            f"the last write of the append-only file: {info['aof_last_write_status']}",
            "the server refuses writes until it succeeds (MISCONF)",
            "free space on its disk, then read its log",
        )
    elif sync == "no":
        yield warn(
            "persistence",
            "appendfsync is no",
            "a crash of the machine loses what the kernel had not written yet, half a minute or so",
            "executor redis CONFIG SET appendfsync everysec",
        )
    else:
        yield ok("persistence", f"append-only file, appendfsync {sync or 'not told'}")


def _memory(info: dict[str, str]) -> Iterator[Finding]:
    if info.get("maxmemory_policy") == "noeviction":
        yield ok("memory", "maxmemory-policy noeviction")
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    limit = most or int(info.get("total_system_memory", 0))
    if limit and used > _FULL * limit:
        yield warn(
            "memory",
            f"{used / limit:.0%} of {_mib(limit)} used",
            "a full server refuses new requests; what runs still ends",
            "executor redis CONFIG SET maxmemory MORE, or a shorter EXECUTOR_RESULT_TTL",
        )
    elif limit:
        yield ok("memory", f"{_mib(used)} of {_mib(limit)} used{'' if most else '; no maxmemory is set'}")


def _role(info: dict[str, str]) -> Iterator[Finding]:
    if info.get("role", "master") != "master":
        yield error("server", "it is a replica", "nothing can be written to it", "point REDIS_URL at the primary")


def _stream(view: dict[str, Any], facts: dict[str, Any]) -> Iterator[Finding]:
    stream, group = view["stream"], view["group"]
    about = _about(view, facts)
    if view["exists"] is None:
        return  # the refusal is a finding already
    if group is None:
        missing = f"no group {view['name']!r}" if view["exists"] else "the stream does not exist"
        yield error(
            about,
            f"{missing}; length {view['length']}",
            "KEDA counts the whole stream as lag, or fails at each poll in pending mode (keda#7447)",
            f"executor redis XGROUP CREATE {stream} {view['name']} 0 MKSTREAM; at 0, never at $",
        )
        return
    yield from _lag(about, view)
    yield from _stuck(about, view, facts["lease_ms"])
    if view["kind"] == "ingress":
        yield from _readers(about, view)
    elif facts["executors"] is not None:
        yield from _orphans(about, view, facts["executors"])


def _about(view: dict[str, Any], facts: dict[str, Any]) -> str:
    if view["kind"] == "ingress":
        return f"ingress {view['stream']}"
    return f"lane {view['stream'].removeprefix(facts['lane_prefix'])}"


def _lag(about: str, view: dict[str, Any]) -> Iterator[Finding]:
    group, stream = view["group"], view["stream"]
    waiting = f"pending {group['pending']}"
    if group["lag"] is None:
        yield error(
            about,
            f"its lag is nil; {waiting}",
            "KEDA takes nil for -1, which is inactive: nothing starts from zero (keda#7880, redis/go-redis#3369); "
            "a group made at $ or an XDEL does this",
            "start a dispatcher, whose janitor repairs it (executor dispatcher), or: executor redis XGROUP SETID "
            f"{stream} {view['name']} {group['last-delivered-id']} ENTRIESREAD <entries-added minus undelivered>",
        )
    elif group.get("entries-read") is None and group["last-delivered-id"] != "0-0":
        yield warn(
            about,
            f"the group does not know how much it has read (lag {group['lag']}); it was not made at 0",
            "its lag is nil after the next XADD, and KEDA then starts nothing from zero (redis/go-redis#3369)",
            "start a dispatcher, whose janitor repairs it: executor dispatcher",
        )
    else:
        yield ok(about, f"lag {group['lag']}, {waiting}")


def _stuck(about: str, view: dict[str, Any], lease_ms: int) -> Iterator[Finding]:
    if not view["stuck"]:
        return
    oldest = max(view["stuck"], key=lambda row: int(row["idle"]))
    yield error(
        about,
        f"{len(view['stuck'])} or more entries held and not renewed for over {2 * lease_ms / 1000:g} s; "
        f"{oldest['id']} by {oldest['consumer']} for {oldest['idle'] / 1000:.0f} s",
        "their owner is gone and nobody takes them back; lag does not show them, so KEDA starts nothing for them",
        "start a dispatcher, whose janitor rescues them: executor dispatcher",
    )


def _readers(about: str, view: dict[str, Any]) -> Iterator[Finding]:
    recent = [one for one in view["consumers"] if one["idle"] < _READS]
    lag = view["group"]["lag"]
    if recent:
        yield ok(about, f"read by {', '.join(one['name'] for one in recent)}")
        return
    gone = ", ".join(f"{one['name']} ({one['idle'] / 1000:.0f} s ago)" for one in view["consumers"]) or "nobody, ever"
    seen, why = f"no dispatcher reads it; last: {gone}", "requests wait here until one does"
    act = "executor dispatcher; in a cluster: kubectl get deployment,pods -A | grep dispatcher"
    yield (warn if lag == 0 else error)(about, f"{seen}; {'no' if lag == 0 else lag or 'some'} entries wait", why, act)


def _orphans(about: str, view: dict[str, Any], executors: list[dict[str, Any]]) -> Iterator[Finding]:
    orphans = [one for one in view["consumers"] if not one["alive"]]
    registered = {one["id"] for one in executors}
    for one in orphans:
        holds = one["pending"]
        state = "registered, but its heartbeat is over" if one["name"] in registered else "not registered"
        yield warn(
            about,
            f"consumer {one['name']} is orphaned ({state}) and holds {holds or 'nothing'}",
            "its entries come back when their lease is over, if a dispatcher runs"
            if holds
            else "left by a worker that was killed; harmless, but XINFO CONSUMERS grows",
            "executor dispatcher (its janitor rescues expired leases)"
            if holds
            else f"executor redis XGROUP DELCONSUMER {view['stream']} {view['name']} {one['name']}",
        )
    if view["consumers"] and not orphans:
        yield ok(about, f"{len(view['consumers'])} consumers, each with a heartbeat")


def _dead(count: int) -> Iterator[Finding]:
    if count:
        yield warn(
            "dead letters",
            f"{count} of them",
            "evaluations that ended as lost, or requests that could not be answered",
            "executor dead list; then redrive or purge them (on a cluster as the user admin)",
        )
    else:
        yield ok("dead letters", "none")


def _immortal(facts: dict[str, Any]) -> Iterator[Finding]:
    extent = f"{facts['sampled']} keys{'' if facts['whole'] else ' of a larger cell'}"
    if facts["immortal"]:
        first = facts["immortal"][0]
        yield error(
            "keys",
            f"{len(facts['immortal'])} records or results without a TTL, as {first}, among {extent}",
            "they stay for ever and fill the server",
            f"see who wrote it, then: executor redis EXPIRE {first} 86400",
        )
    elif "SCAN" not in facts["refused"] and "PTTL" not in facts["refused"]:
        yield ok("keys", f"every record and result among {extent} expires")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
