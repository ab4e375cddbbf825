"""The few system calls that the standard library lacks, by ctypes: prctl(2).

Each wrapper raises OSError as the `os` module would.
"""

from __future__ import annotations

import ctypes
import os

PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


def prctl(option: int, value: int, more: int = 0) -> None:
    """Set a property of this process, see the manual page of the same name in section 2."""
    if _prctl(option, value, more, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
