"""A user for each tenant: its own requests, results, replies and output, and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from dispatcher.policy import Policy, TenantPolicy
from executor.client import Client
from executor.errors import NotAuthorized
from executor.settings import load
from tests.support.users import Cluster
from tests.support.wait import wait_until

POLICY = Policy(tenants={name: TenantPolicy(trusted=True) for name in ("default", "acme", "beta")})


@asynccontextmanager
async def caller_of(cluster: Cluster, tenant: str) -> AsyncIterator[Client]:
    async with Client(cluster.url(f"tenant-{tenant}"), tenant=tenant, settings=load({})) as client:
        yield client


async def _serve(cluster: Cluster) -> None:
    await cluster.stack("dispatcher").dispatcher(POLICY)
    await cluster.stack("worker").worker(wait=False)
    looking = cluster.stack("doctor")
    await wait_until(lambda: looking.registered("worker-0"), "the worker is registered")


async def test_a_tenant_does_all_that_a_caller_does(cluster: Cluster) -> None:
    await _serve(cluster)
    async with caller_of(cluster, "acme") as client:
        result = await client.run("print(6*7)", wait_timeout=20, idempotency_key="k")
        again = await client.run("print(6*7)", wait_timeout=20, idempotency_key="k")
        handle = await client.submit("print('live', flush=True)", stream=True)
        chunks = [chunk.text async for chunk in handle.stream()]
        known = await client.state(handle.id)

    assert (result.stdout, again.id) == ("42\n", result.id)
    assert chunks == ["live\n"]
    assert known["state"] in ("running", "done")
    assert await cluster.log() == []


async def test_a_tenant_sees_nothing_of_another(cluster: Cluster) -> None:
    await _serve(cluster)
    async with caller_of(cluster, "acme") as acme, caller_of(cluster, "beta") as beta:
        handle = await acme.submit("print('secret', flush=True)", stream=True, id="one")
        await handle.wait(20)
        for call in (beta.result, beta.state):
            assert not await call("one")
        stolen = Client(cluster.url("tenant-beta"), tenant="acme", settings=load({}))
        async with stolen:
            for attempt in (stolen.result("one"), stolen.state("one"), stolen.submit("pass")):
                with pytest.raises(NotAuthorized):
                    await attempt


@pytest.mark.parametrize(
    "command",
    [
        ("XADD", "executor:requests", "*", "code", "pass"),
        ("XADD", "executor:requests:beta", "*", "code", "pass"),
        ("XRANGE", "executor:results", "-", "+"),
        ("XRANGE", "executor:reply:beta/client-1", "-", "+"),
        ("XRANGE", "executor:reply:client-1", "-", "+"),
        ("XRANGE", "executor:output:beta/a", "-", "+"),
        ("XADD", "executor:reply:acme/me", "*", "outcome", "succeeded"),
        ("HGETALL", "executor:result:a"),
        ("HGETALL", "executor:eval:default:a"),
        ("HGETALL", "executor:eval:beta:a"),
        ("GET", "executor:once:beta:a"),
        ("XADD", "executor:lane:warm.python", "*", "id", "a"),
        ("EVAL", "return 1", 0),
        ("INFO",),
    ],
)
async def test_a_tenants_user_is_refused_the_rest(cluster: Cluster, command: tuple[str | int, ...]) -> None:
    assert await cluster.denied("tenant-acme", *command)


async def test_a_reply_goes_to_a_stream_of_the_tenants_own(cluster: Cluster) -> None:
    """A dispatcher writes it with its own rights: what a tenant names must be what it could name."""
    await _serve(cluster)
    async with caller_of(cluster, "acme") as client:
        handle = await client.submit("pass", reply_to="executor:reply:beta/client-1")

        result = await _result(client, handle.id)

    assert (result["outcome"], result["field"]) == ("rejected", "reply_to")
    assert "'executor:reply:beta/client-1' is not executor:reply:acme/<name>" in result["error"]
    assert await cluster.call("boss", "EXISTS", "executor:reply:beta/client-1") == 0


async def _result(client: Client, evaluation_id: str) -> dict[str, str]:
    found: dict[str, str] = {}

    async def there() -> bool:
        result = await client.result(evaluation_id)
        if result is not None:
            found.update(outcome=result.outcome, field=result.field, error=result.error)
        return bool(found)

    await wait_until(there, "it is rejected")
    return found
