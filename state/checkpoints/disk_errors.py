"""What the disk says when it fails, as this program's errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager

from streamflow.errors import DamagedError, StateError

__all__ = ["reason", "told"]


@contextmanager
def told(action: str, what: str, place: str) -> Generator[None]:
    """OSErrors as StateErrors that say what could not be done: DamagedError for what is missing or cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedError(f"{what} is missing in {place}") from error
    except OSError as error:
        if error.errno == errno.EIO and action == "read":
            raise DamagedError(f"{what} in {place} cannot be read: {reason(error)}") from error
        hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        raise StateError(f"cannot {action} {what} in {place}: {reason(error)}", hint=hint) from error


def reason(error: OSError) -> str:
    """The operating system's words for it.

    >>> reason(OSError(28, "No space left on device", "/a/b"))
    'No space left on device'
    """
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))
