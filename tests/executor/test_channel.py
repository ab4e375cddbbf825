"""The one connection: replies and errors reach whoever waits, and nobody who does not."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from executor.errors import PermanentError
from tests.support.stack import Stack


async def test_an_error_that_nobody_waits_for_any_more_is_no_error_of_the_program(stack: Stack) -> None:
    """One command of a pipeline may fail so that its caller gives up on the others."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    first, second = await stack.redis.pipeline([("NOSUCH",), ("NOSUCH",)])
    with pytest.raises(PermanentError):
        await first
    await stack.redis.call("PING")

    del first, second
    gc.collect()
    await asyncio.sleep(0)

    assert told == []
