"""The job that every system is given: it notes that it begins, sleeps, and notes that it has ended.

A note is one write with O_APPEND to a file of the bench, so what ran is known without asking the system that ran it.
executor gets this very file as its code; the others import it. Standard library only.
"""

import os
import sys
import time


def run(path: str, name: str, seconds: float) -> str:
    """Take some time; return the job's name.

    Args:
        path: file of the notes.
        name: of the job.
        seconds: how long it takes.
    """
    note(path, "begin", name)
    time.sleep(seconds)
    note(path, "end", name)
    return name


def note(path: str, event: str, name: str) -> None:
    """Append a line; the monotonic clock is one for all processes of the machine."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{event} {name} {time.monotonic()}\n".encode())
    os.close(file)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], float(sys.argv[3]))
