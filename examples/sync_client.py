"""The same without asyncio: submit several at once, take one back, read what failed."""

from executor.sync import Client


def main() -> None:
    """Squares from workers, and an error that is data."""
    with Client() as client:
        handles = client.submit_many([{"code": f"print({number} ** 2)"} for number in range(4)])
        print("squares", *(handle.wait().stdout.strip() for handle in handles))
        print(client.run("1 / 0").outcome)
        endless = client.submit("while True: pass", timeout=60)
        endless.cancel()
        print(endless.wait().outcome)


if __name__ == "__main__":
    main()
