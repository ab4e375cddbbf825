"""How an evaluation can end, and the states it passes on the way.

The words are the vocabulary of results, metrics and scripts; each has one meaning everywhere.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The one terminal word of an evaluation."""

    SUCCEEDED = "succeeded"
    """The code ran to its end or exited with status 0."""
    FAILED = "failed"
    """The code raised, or exited with another status."""
    TIMED_OUT = "timed_out"
    """Wall-clock timeout or CPU limit reached; `error` says which."""
    OUT_OF_MEMORY = "out_of_memory"
    """The process tree went above its memory limit."""
    PROCESS_LIMIT = "process_limit"
    """The process tree had more processes and threads than allowed."""
    OUTPUT_LIMIT = "output_limit"
    """A stream carried far more than is kept (OUTPUT_CEILING times `limits.output`)."""
    DISK_LIMIT = "disk_limit"
    """A file grew above the scratch limit and the kernel ended the process (SIGXFSZ)."""
    KILLED = "killed"
    """A signal that the platform did not send ended the code; `exit_code` is minus the signal's number."""
    CANCELLED = "cancelled"
    """The caller took it back, before or while it ran."""
    REJECTED = "rejected"
    """Never run: the request is not acceptable; `error` names the field."""
    LOST = "lost"
    """The platform's fault, after all attempts."""


class Reason(StrEnum):
    """Why there is a dead letter."""

    ATTEMPTS = "attempts"
    """Lost: its workers went away in every attempt."""
    AGE = "age"
    """Lost: no worker took it within its whole life."""
    CORRUPT = "corrupt"
    """What was stored for it cannot be read."""
    UNANSWERABLE = "unanswerable"
    """A key that its answer needs holds something that is not ours."""


class State(StrEnum):
    """Where an evaluation's record stands."""

    QUEUED = "queued"
    """Admitted to a lane, or given back to it."""
    RUNNING = "running"
    """Claimed by a worker under a lease."""
    DONE = "done"
    """One result is committed."""
