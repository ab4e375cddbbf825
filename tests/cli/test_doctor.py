"""`executor doctor` on a real server: silent about what is well, and a finding for each thing that was broken."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cli import exits
from cli.embedded import EmbeddedServer
from executor.streams.inspection import Inspector
from keda.doctor.finding import Finding
from keda.doctor.server import judge_server
from tests.support.command import Done, execute
from tests.support.servers import server_program
from tests.support.stack import Stack
from tests.support.users import knows_setinfo, printed_users
from tests.support.wait import wait_until

pytestmark = pytest.mark.timeout(90)


async def _doctor(stack: Stack, *words: str, **environ: str) -> Done:
    return await execute({**stack.environ, **environ}, "doctor", "--no-cluster", "--json", *words)


def _bad(done: Done) -> list[tuple[str, str, str]]:
    """What is not well: severity, about, seen."""
    found = [(one["severity"], one["about"], one["seen"]) for one in done.json["findings"] if one["severity"] != "ok"]
    return [row for row in found if row[1] != "persistence"]  # the tests' server keeps nothing


def _one(done: Done, word: str) -> dict[str, Any]:
    """The one finding that says a word."""
    found = [one for one in done.json["findings"] if word in one["seen"]]
    assert len(found) == 1, done.stdout
    one: dict[str, Any] = found[0]
    if one["severity"] != "ok":
        assert one["why"]
        assert one["act"]
    return one


async def _served(stack: Stack) -> None:
    await stack.dispatcher()
    await stack.worker()
    await stack.result(await stack.add(code="print(1)"))


async def test_a_healthy_cell_has_no_warning(tmp_path: Path) -> None:
    server = EmbeddedServer(data=tmp_path, program=server_program())
    stack = Stack(server.url, f"t{secrets.token_hex(4)}")
    try:
        await _served(stack)
        done = await _doctor(stack)
        text = await execute(stack.environ, "doctor", "--no-cluster")
    finally:
        await stack.close()
        server.close()

    assert (done.code, text.code) == (exits.OK, exits.OK)
    assert (done.json["error"], done.json["warn"]) == (0, 0), done.stdout
    assert "0 errors, 0 warnings" in text.stdout
    assert _one(done, "append-only file, appendfsync everysec")["severity"] == "ok"


async def test_a_server_that_keeps_nothing_is_a_warning(stack: Stack) -> None:
    await _served(stack)

    done = await _doctor(stack)

    assert done.code == exits.OK
    assert _bad(done) == []
    assert _one(done, "append-only file is off")["severity"] == "warn"


async def test_a_nil_lag_is_an_error(stack: Stack) -> None:
    """The trap: a group made at $ on a stream that is not empty."""
    lane = stack.cell.keys.lane("job.cpu")
    for name in ("a", "b"):
        await stack.redis.call("XADD", lane, "*", "id", name)
    await stack.redis.call("XGROUP", "CREATE", lane, "workers", "$")
    early = await _doctor(stack)
    await stack.redis.call("XADD", lane, "*", "id", "c")

    late = await _doctor(stack)

    assert _one(early, "not made at 0")["severity"] == "warn"
    assert late.code == exits.NOT_AS_HOPED
    assert _one(late, "lag is nil")["severity"] == "error"
    assert "keda#7880" in _one(late, "lag is nil")["why"]


async def test_a_missing_group_is_an_error_whose_advice_repairs_it(stack: Stack) -> None:
    lane = stack.cell.keys.lane("warm.python")
    await stack.redis.call("XADD", lane, "*", "id", "a")

    done = await _doctor(stack)
    finding = _one(done, "no group 'workers'")
    words = finding["act"].partition(";")[0].removeprefix("executor redis ").split()
    await stack.redis.call(*words)

    assert (done.code, finding["severity"], finding["about"]) == (exits.NOT_AS_HOPED, "error", "lane warm.python")
    assert not any("group" in seen for _, _, seen in _bad(await _doctor(stack)))


async def test_an_eviction_policy_is_an_error(own_server: EmbeddedServer) -> None:
    stack = Stack(own_server.url, "evicted")
    try:
        await stack.redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "1300000")
        done = await _doctor(stack)
    finally:
        await stack.close()

    assert done.code == exits.NOT_AS_HOPED
    assert _one(done, "allkeys-lru")["severity"] == "error"
    assert _one(done, "% of")["severity"] == "warn"


async def test_a_wrong_password_is_exit_4_and_said(stack: Stack, server: EmbeddedServer) -> None:
    head, _, tail = server.url.partition("@")
    done = await _doctor(stack, REDIS_URL=f"{head}x@{tail}")

    assert done.code == exits.NOT_ALLOWED
    assert "refuses these credentials" in done.json["findings"][0]["seen"]
    assert head not in done.stdout


async def test_a_server_that_is_away_is_exit_3(stack: Stack, tmp_path: Path) -> None:
    done = await _doctor(stack, REDIS_URL=f"unix://{tmp_path}/nothing.sock")

    assert done.code == exits.SERVER_AWAY
    assert done.json["findings"][0]["severity"] == "error"


async def test_no_address_is_exit_2(stack: Stack, tmp_path: Path) -> None:
    environ = {name: value for name, value in stack.environ.items() if name != "REDIS_URL"}

    done = await execute(environ, "doctor", "--no-cluster", "--json", cwd=tmp_path)

    assert done.code == exits.USAGE
    assert "no server" in done.json["findings"][0]["seen"]


async def test_an_orphan_is_told_by_what_it_holds(stack: Stack) -> None:
    lane, short = stack.cell.keys.lane("warm.python"), {"EXECUTOR_LEASE": "0.3"}
    await stack.redis.call("XGROUP", "CREATE", lane, "workers", "0", "MKSTREAM")
    await stack.redis.call("XADD", lane, "*", "id", "a")
    await stack.redis.call("XGROUP", "CREATECONSUMER", lane, "workers", "idler")
    await stack.redis.call("XREADGROUP", "GROUP", "workers", "holder", "STREAMS", lane, ">")

    async def stuck() -> bool:
        return any("not renewed" in seen for _, _, seen in _bad(await _doctor(stack, **short)))

    await wait_until(stuck, "the entry counts as stuck")
    done = await _doctor(stack, **short)

    assert "holds nothing" in _one(done, "consumer idler")["seen"]
    assert "DELCONSUMER" in _one(done, "consumer idler")["act"]
    assert "holds 1" in _one(done, "consumer holder")["seen"]
    assert _one(done, "not renewed")["severity"] == "error"
    assert _one(await _doctor(stack), "lag 0, pending 1")["severity"] == "ok"


async def test_unread_requests_are_an_error_only_while_they_wait(stack: Stack) -> None:
    nobody = await _doctor(stack)
    await stack.redis.call("XGROUP", "CREATE", stack.cell.keys.requests(), "dispatchers", "0", "MKSTREAM")
    idle = await _doctor(stack)
    await stack.add(code="pass")
    waiting = await _doctor(stack)

    assert _one(nobody, "no request stream")["severity"] == "warn"
    assert _one(idle, "no dispatcher reads it")["severity"] == "warn"
    assert _one(waiting, "no dispatcher reads it")["severity"] == "error"


async def test_dead_letters_and_immortal_keys_are_counted(stack: Stack) -> None:
    keys = stack.cell.keys
    await stack.redis.call("XADD", keys.dead(), "*", "id", "a")
    await stack.redis.call("HSET", keys.result("default", "forever"), "outcome", "succeeded")

    done = await _doctor(stack)
    await stack.redis.call("DEL", keys.result("default", "forever"))

    assert _one(done, "1 of them")["severity"] == "warn"
    assert _one(done, "without a TTL")["severity"] == "error"


async def test_the_user_that_the_cluster_has_for_it_may_look_at_everything(own_server: EmbeddedServer) -> None:
    """The rights are those of k8s/base/redis-users.sh."""
    line = next(line for line in printed_users().splitlines() if line.startswith("user doctor "))
    rights = line.partition("resetchannels ")[2].split()
    stack = Stack(own_server.url, "executor")
    looking = Stack(f"unix://doctor:secret@{own_server.url.partition('@')[2]}", "executor")
    try:
        await stack.redis.call("ACL", "SETUSER", "doctor", "on", ">secret", *rights)
        await _served(stack)
        done = await _doctor(looking)
    finally:
        await looking.close()
        await stack.close()

    assert _bad(done) == []
    assert _one(done, "as the user doctor")["severity"] == "ok"


@pytest.fixture
async def limited(own_server: EmbeddedServer) -> AsyncIterator[Stack]:
    """A cell seen by a user that may do what KEDA may, and no more."""
    owner = Stack(own_server.url, "cell")
    rights = (
        "+client|setname",
        *(["+client|setinfo"] if knows_setinfo() else []),
        "+ping",
        "+xinfo|groups",
        "+xlen",
        "+xpending",
        "~cell:lane:*",
    )
    await owner.redis.call("ACL", "SETUSER", "looker", "on", ">secret", *rights)
    await owner.redis.call("XGROUP", "CREATE", "cell:lane:job.cpu", "workers", "0", "MKSTREAM")
    path = own_server.url.partition("@")[2]
    looking = Stack(f"unix://looker:secret@{path}", "cell")
    yield looking
    await looking.close()
    await owner.close()


async def test_what_the_access_list_refuses_is_a_warning(limited: Stack) -> None:
    pairs = [("cell:lane:job.cpu", "workers")]

    facts = await Inspector(limited.cell).collect(pairs)
    found: list[Finding] = judge_server(facts)
    done = await _doctor(limited)

    (refused,) = [one for one in found if one.severity == "warn"]
    assert refused.about == "access"
    assert {"INFO server", "SCAN", "ACL WHOAMI", "HGETALL executors", "CONFIG GET appendfsync"} <= set(facts["refused"])
    assert [one.seen for one in found if one.about == "lane job.cpu"] == ["lag 0, pending 0"]
    assert done.code == exits.OK
