"""The work every system is given, in a module of its own so that a worker can import it before it forks."""


def echo(payload: str) -> str:
    """Return what came in; the no-op is the echo of nothing."""
    return payload
