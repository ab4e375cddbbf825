"""Exit codes of every command, in one table (docs/operations.md has the same; a test compares them)."""

from __future__ import annotations

from typing import Final

from executor.errors import ExecutorError, NotAuthorized, TransientError

OK: Final = 0
NOT_AS_HOPED: Final = 1
USAGE: Final = 2
SERVER_AWAY: Final = 3
NOT_ALLOWED: Final = 4
UNKNOWN_ID: Final = 5
STILL_RUNNING: Final = 6
INTERRUPTED: Final = 130

TABLE: Final = {
    OK: "done; for submit and result: the evaluation succeeded",
    NOT_AS_HOPED: "the evaluation ended otherwise, a batch has an unexpected outcome, doctor found errors, "
    "or a dead letter cannot be redriven",
    USAGE: "bad arguments, request, file or configuration; the message names what",
    SERVER_AWAY: "the server cannot be used now; try again",
    NOT_ALLOWED: "the server refuses the credentials",
    UNKNOWN_ID: "no evaluation or dead letter of that id is known",
    STILL_RUNNING: "no result yet (result), or not within --wait-timeout (submit)",
    INTERRUPTED: "Ctrl-C",
}


def cause(group: BaseExceptionGroup[BaseException]) -> ExecutorError | None:
    """The first error of the platform among those that ended a program's parts."""
    for error in group.exceptions:
        if isinstance(error, ExecutorError):
            return error
        if isinstance(error, BaseExceptionGroup) and (found := cause(error)):
            return found
    return None


def code_for(error: ExecutorError) -> int:
    """The exit code of an error that ends a command."""
    if isinstance(error, NotAuthorized):
        return NOT_ALLOWED
    return SERVER_AWAY if isinstance(error, TransientError) else USAGE
