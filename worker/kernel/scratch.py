"""Empties the scratch directory of an evaluation that has ended.

Works by descriptors and never follows a link: every name below is removed as what it is (unlinkat(2)); a folder is
opened with O_NOFOLLOW before anything in it is touched.
"""

from __future__ import annotations

import os

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def empty(path: str) -> bool:
    """Remove everything in a folder; False when something does not go away."""
    if not os.listdir(path):
        return True
    fd = os.open(path, _FOLDER)
    try:
        return _empty(fd)
    finally:
        os.close(fd)


def _empty(folder: int) -> bool:
    try:
        os.fchmod(folder, 0o700)  # the evaluation may have locked it
        names = os.listdir(folder)
    except OSError:
        return False
    removed = [_remove(name, folder) for name in names]
    return all(removed)


def _remove(name: str, folder: int) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
        return True
    except IsADirectoryError:
        pass
    except OSError:
        return False
    try:
        os.chmod(name, 0o700, dir_fd=folder)
        fd = os.open(name, _FOLDER, dir_fd=folder)
    except OSError:
        return False
    try:
        emptied = _empty(fd)
    finally:
        os.close(fd)
    if emptied:
        os.rmdir(name, dir_fd=folder)
    return emptied
