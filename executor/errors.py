"""The errors of the platform: one tree, whose branch decides what happens next.

What evaluated code does wrong is data (an outcome in the result), never an exception from here.

    ExecutorError
    ├── RequestError          reject: the caller must change something; never tried again
    │   ├── InvalidField      a field is unknown, malformed, above a limit or not supported yet
    │   └── NotAuthorized     the server or the policy does not let this caller do it
    ├── TransientError        retry: the same call can succeed later
    │   ├── ServerUnavailable the Redis server cannot be reached, is loading, read-only or full
    │   ├── BacklogFull       a tenant has as many evaluations open as it may
    │   ├── GroupMissing      a consumer group is gone (flush, failover): made again, then retried
    │   ├── ScriptMissing     the server forgot a script (flush, restart): sent again, then retried
    │   └── WorkerBroken      the child processes of a worker failed the platform, not the code
    └── PermanentError        dead-letter: a person must act; trying again cannot help
        ├── CorruptEntry      stored bytes that no version of ours wrote
        ├── Unanswerable      a key of one evaluation holds something else: it is set aside, the rest goes on
        ├── WrongKeyType      a key of ours holds something else
        └── Misconfigured     a setting, a policy file or a server that cannot work
"""

from __future__ import annotations

from collections.abc import Sequence


class ExecutorError(Exception):
    """Base of every error of ours. The message is one sentence that says what to do."""


class RequestError(ExecutorError):
    """The caller must change something. Never retried; the evaluation is rejected."""


class InvalidField(RequestError):
    """A field of a request is not acceptable.

    Attributes:
        field: name of the field as the caller spelled it.
        reason: what is wrong and what would be right.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class NotAuthorized(RequestError):
    """The server (NOAUTH, NOPERM, WRONGPASS) or the policy refuses this caller."""


class TransientError(ExecutorError):
    """The same call can succeed later.

    Attributes:
        retry_after: seconds to wait before the next try.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerUnavailable(TransientError):
    """The Redis server cannot be reached, is loading, is a read-only replica or is full."""


class BacklogFull(TransientError):
    """A tenant has as many evaluations open as it may; there is room once some of them have ended.

    Attributes:
        outstanding: evaluations that have not ended, and requests that are not read yet.
        backlog: how many there may be.
        accepted: ids of the same call that were taken before.
    """

    def __init__(self, tenant: str, outstanding: int, backlog: int, accepted: Sequence[str] = ()) -> None:
        super().__init__(
            f"tenant {tenant} has {outstanding} evaluations open, and may have {backlog}; submit when there is room"
        )
        self.outstanding = outstanding
        self.backlog = backlog
        self.accepted = tuple(accepted)


class GroupMissing(TransientError):
    """A consumer group does not exist (NOGROUP): it is made again at 0 and the call repeated."""


class ScriptMissing(TransientError):
    """The server does not know a script (NOSCRIPT): its source is sent and the call repeated."""


class WorkerBroken(TransientError):
    """A zygote or keeper process ended by itself; the attempt is the platform's fault."""


class PermanentError(ExecutorError):
    """A person must act; the entry goes to the dead letters."""


class CorruptEntry(PermanentError):
    """Stored bytes that no version of this software wrote."""


class Unanswerable(PermanentError):
    """A key that one evaluation needs holds something that is not ours; no other is touched by that."""


class WrongKeyType(PermanentError):
    """A key that is ours by name, and that many need, holds another type (Redis WRONGTYPE): it heals with the key."""


class Misconfigured(PermanentError):
    """A setting, a policy file or a server that cannot work as it is."""
