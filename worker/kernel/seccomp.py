"""A seccomp filter (seccomp(2)) that leaves no socket but AF_UNIX: nothing here reaches a network.

A pod is one network namespace, so a NetworkPolicy cannot tell the container that runs evaluations from the one that
holds credentials. This can: it is inherited over fork and exec and cannot be taken off.

Numbers are the kernel's (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h,
include/uapi/linux/{seccomp,bpf_common,audit}.h). x86-64 is tested; aarch64 is written from the tables and was not run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from worker.kernel import system

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in struct seccomp_data; the low half of an argument comes first on both machines."""
_X32_BIT = 0x40000000
"""x86-64's second set of system call numbers."""

_MACHINES = {
    "x86_64": (0xC000003E, 41, 53, 425),
    "aarch64": (0xC00000B7, 198, 199, 425),
}
"""By machine: its AUDIT_ARCH_ constant, and the numbers of socket, socketpair and io_uring_setup."""

Instruction = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def no_network() -> None:
    """Install the filter in this process and whatever comes of it.

    Raises:
        OSError: this machine has no table, or the kernel no seccomp.
    """
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in unix_sockets_only(os.uname().machine))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    system.prctl(system.PR_SET_NO_NEW_PRIVS, 1)
    system.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def unix_sockets_only(machine: str) -> list[Instruction]:
    """The program as (code, jump if true, jump if false, operand).

    A foreign architecture is killed; io_uring, which could make sockets past the filter, is absent (ENOSYS);
    socket and socketpair of any other family fail with EACCES.

    Raises:
        OSError: the machine has no table here.
    """
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no seccomp table for {machine}")
    arch, make, make_pair, io_uring = _MACHINES[machine]
    return [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 6, 0, _X32_BIT),  # -> absent
        (_EQUAL, 5, 0, io_uring),  # -> absent
        (_EQUAL, 1, 0, make),  # -> family
        (_EQUAL, 0, 4, make_pair),  # -> family, else allow
        (_LOAD, 0, 0, _FIRST_ARGUMENT),  # family
        (_EQUAL, 2, 0, int(socket.AF_UNIX)),  # -> allow
        (_RETURN, 0, 0, _ERRNO | errno.EACCES),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),  # absent
        (_RETURN, 0, 0, _ALLOW),  # allow
    ]
