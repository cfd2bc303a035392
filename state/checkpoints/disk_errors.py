"""Errors of the disk as this program's errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from streamflow.errors import DamagedError, StateError

__all__ = ["reason", "told"]

_PERMISSIONS: Final = "check the folder's permissions, or give another checkpoint_dir"
_HINTS: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "the file system is read-only: give another checkpoint_dir",
    errno.ENOTDIR: "a part of the path is a file: give another checkpoint_dir",
}


@contextmanager
def told(action: str, what: str, place: str) -> Generator[None]:
    """A context whose OSErrors become StateErrors that name the failed action: DamagedError for missing or
    unreadable files."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedError(f"{what} is missing in {place}") from error
    except OSError as error:
        if error.errno == errno.EIO and action == "read":
            raise DamagedError(f"{what} in {place} cannot be read: {reason(error)}") from error
        raise StateError(
            f"cannot {action} {what} in {place}: {reason(error)}", hint=_HINTS.get(error.errno or 0)
        ) from error


def reason(error: OSError) -> str:
    """The operating system's words for it.

    >>> reason(OSError(28, "No space left on device", "/a/b"))
    'No space left on device'
    """
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))
