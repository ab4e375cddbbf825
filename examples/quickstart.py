"""Run one evaluation and wait; then watch another while it runs."""

import asyncio

from executor import Client


async def main() -> None:
    """The server is REDIS_URL, or what `executor up` left in this folder."""
    async with Client() as client:
        result = await client.run("print(6 * 7)")
        print(result.outcome, result.stdout, end="")
        handle = await client.submit("for n in range(3): print('step', n)", stream=True)
        async for chunk in handle.stream():
            print(chunk.text, end="")


if __name__ == "__main__":
    asyncio.run(main())
