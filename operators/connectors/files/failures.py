"""Operating-system failures as errors that name the file and say what to do."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from streamflow.errors import SinkError, SourceError

__all__ = ["reading", "writing"]

_HINTS: Final = {
    errno.ENOENT: "it does not exist (any more)",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "make room on the disk; output committed before is intact",
    errno.EDQUOT: "the disk quota is used up; output committed before is intact",
    errno.EFBIG: "the file has become larger than the system allows",
    errno.EIO: "the device failed; check the system's log",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "it is a folder",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n) or read fewer at once",
}


@contextmanager
def reading(path: str) -> Generator[None]:
    """Maps OSError to SourceError."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"cannot read {path!r}: {_reason(error)}", hint=_HINTS.get(error.errno or 0)
        ) from error


@contextmanager
def writing(path: str) -> Generator[None]:
    """Maps OSError to SinkError."""
    try:
        yield
    except OSError as error:
        raise SinkError(
            f"cannot write {path!r}: {_reason(error)}", hint=_HINTS.get(error.errno or 0)
        ) from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
