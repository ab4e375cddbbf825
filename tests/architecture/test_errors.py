"""The tree of errors: as it is drawn, and with a branch for everything that the Redis client can raise."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator

import pytest
from redis import exceptions

from executor import errors
from executor.errors import (
    ExecutorError,
    GroupMissing,
    NotAuthorized,
    PermanentError,
    ScriptMissing,
    ServerUnavailable,
    WrongKeyType,
)
from executor.streams.wire import translate

FOREIGN = {
    name: found
    for name, found in vars(exceptions).items()
    if inspect.isclass(found) and issubclass(found, Exception) and found.__module__ == exceptions.__name__
}
BRANCHES = {
    "ConnectionError": ServerUnavailable,
    "TimeoutError": ServerUnavailable,
    "BusyLoadingError": ServerUnavailable,
    "MaxConnectionsError": ServerUnavailable,
    "ClusterDownError": ServerUnavailable,
    "MasterDownError": ServerUnavailable,
    "TryAgainError": ServerUnavailable,
    "OutOfMemoryError": ServerUnavailable,
    "ReadOnlyError": ServerUnavailable,
    "AskError": ServerUnavailable,
    "MovedError": ServerUnavailable,
    "AuthenticationError": NotAuthorized,
    "AuthorizationError": NotAuthorized,
    "AuthenticationWrongNumberOfArgsError": NotAuthorized,
    "ExternalAuthProviderError": ServerUnavailable,
    "NoPermissionError": NotAuthorized,
    "NoScriptError": ScriptMissing,
}
"""Where each class belongs; those not named here need a person: PermanentError."""

REPLIES = {
    "NOGROUP No such key 'x' or consumer group 'workers'": GroupMissing,
    "NOSCRIPT No matching script": ScriptMissing,
    "WRONGTYPE Operation against a key holding the wrong kind of value": WrongKeyType,
    "NOAUTH Authentication required.": NotAuthorized,
    "NOPERM User x has no permissions to run the 'xadd' command": NotAuthorized,
    "WRONGPASS invalid username-password pair or user is disabled.": NotAuthorized,
    "OOM command not allowed when used memory > 'maxmemory'.": ServerUnavailable,
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist": ServerUnavailable,
    "READONLY You can't write against a read only replica.": ServerUnavailable,
    "LOADING Redis is loading the dataset in memory": ServerUnavailable,
    "MASTERDOWN Link with MASTER is down": ServerUnavailable,
    "CLUSTERDOWN Hash slot not served": ServerUnavailable,
    "BUSY Redis is busy running a script.": ServerUnavailable,
    "ERR unknown command 'x'": PermanentError,
}


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    drawn = dict(_drawn())
    real = {
        name: (found.__mro__[1].__name__ if found is not ExecutorError else "")
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, ExecutorError)
    }

    assert drawn == real


def _drawn() -> Iterator[tuple[str, str]]:
    """(class, parent) of each line of the drawing."""
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"    ([│├└─ ]*)([A-Z]\w+)( .*)?", line)
        if found:
            depth = len(found[1]) // 4
            path[depth:] = [found[2]]
            yield found[2], path[depth - 1] if depth else ""


def test_the_table_names_classes_that_exist() -> None:
    assert set(BRANCHES) <= set(FOREIGN)


@pytest.mark.parametrize("name", FOREIGN)
def test_every_error_of_the_client_has_a_branch(name: str) -> None:
    original = FOREIGN[name]("1 127.0.0.1:7000")  # the form that the redirections take apart

    ours = translate(original)

    assert type(ours) is BRANCHES.get(name, PermanentError)
    assert ours.__cause__ is original


@pytest.mark.parametrize("text", REPLIES)
def test_every_error_reply_has_a_branch(text: str) -> None:
    original = exceptions.ResponseError(text)

    ours = translate(original)

    assert type(ours) is REPLIES[text]
    assert ours.__cause__ is original
    assert text in str(ours) or isinstance(ours, ScriptMissing), "the server's words help the person who reads it"


@pytest.mark.parametrize(
    "original", [ConnectionResetError(104, "reset"), BrokenPipeError(), asyncio.IncompleteReadError(b"", 1)], ids=repr
)
def test_errors_of_the_operating_system_are_outages(original: Exception) -> None:
    ours = translate(original)

    assert type(ours) is ServerUnavailable
    assert ours.__cause__ is original
