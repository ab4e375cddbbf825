"""The parts of the driver: what a seed decides, the proxy, the gate, and a history that a killed process left half."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos.faults import DEFAULT, FAST, FAULTS
from tests.chaos.gate import Gate
from tests.chaos.history import Log, read
from tests.chaos.programs import MIX, programs
from tests.chaos.proxy import Proxy
from tests.chaos.schedule import dice_of, plan


def test_a_seed_decides_programs_and_faults() -> None:
    assert programs(7, 300, "log") == programs(7, 300, "log")
    assert programs(7, 300, "log") != programs(8, 300, "log")
    assert plan(7, 20_000, DEFAULT) == plan(7, 20_000, DEFAULT)
    assert plan(7, 20_000, DEFAULT) != plan(8, 20_000, DEFAULT)
    step = plan(7, 20_000, DEFAULT)[0]
    assert dice_of(7, step).random() == dice_of(7, step).random()


def test_a_whole_run_has_every_fault_and_every_kind_of_program() -> None:
    assert {step.fault for step in plan(1, 20_000, DEFAULT)} == set(DEFAULT)
    assert set(DEFAULT) | {"failover"} == set(FAULTS)
    kinds = {program.kind for program in programs(1, 20_000, "log")}
    assert len(kinds) >= len(MIX)


def test_the_fast_faults_are_faults() -> None:
    assert set(FAST) <= set(FAULTS)
    assert all(fault.about for fault in FAULTS.values())


def test_a_line_that_was_not_finished_is_passed_over(tmp_path: Path) -> None:
    log = Log(tmp_path / "one.jsonl")
    log.say("accepted", "default/one", program=1)
    log.close()
    with (tmp_path / "one.jsonl").open("ab") as file:
        file.write(b'[1.0, "seen", "defau')

    assert [event.kind for event in read(tmp_path)] == ["accepted"]


async def test_the_gate_lets_through_up_to_a_number(tmp_path: Path) -> None:
    driver, producer = Gate(tmp_path / "gate"), Gate(tmp_path / "gate")
    driver.open_to(5)
    await asyncio.wait_for(producer.pass_(4), 2)
    late = asyncio.create_task(producer.pass_(5))
    done, _ = await asyncio.wait([late], timeout=0.2)
    assert not done

    driver.open_to(6)

    await asyncio.wait_for(late, 2)


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    """A proxy before a server that answers each line, and what that has heard."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heard.append(line)
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname())
    await proxy.start()
    try:
        yield proxy, heard
    finally:
        await proxy.close()
        server.close()


async def test_the_proxy_passes_on() -> None:
    async with echoing() as (proxy, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one\n")
        assert await reader.readline() == b"one\n"
        writer.close()


async def test_what_was_withheld_arrives_although_its_sender_has_gone() -> None:
    async with echoing() as (proxy, heard):
        withheld = asyncio.create_task(proxy.withhold("requests", 0.3))
        await asyncio.sleep(0)
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"late\n")
        await writer.drain()
        writer.close()
        assert heard == []

        await withheld

        async with asyncio.timeout(5):
            while not heard:
                await asyncio.sleep(0.01)
        assert heard == [b"late\n"]


async def test_a_connection_is_reset_when_its_command_was_done() -> None:
    async with echoing() as (proxy, heard):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        resetting = asyncio.create_task(proxy.reset(0.3))
        await asyncio.sleep(0)
        writer.write(b"done\n")

        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readline(), 5)

        assert heard == [b"done\n"]
        assert await resetting == 1
        writer.close()
