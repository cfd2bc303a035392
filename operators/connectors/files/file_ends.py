"""The recognition of a file by its first bytes, and by those before the end of the part to read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from streamflow.errors import SourceError

__all__ = ["Ends", "replaced", "same_file"]

_LOOK: Final = 4096


@dataclass(frozen=True, slots=True)
class Ends:
    """Digests of the first bytes of a file, and of those before `offset`."""

    offset: int
    head: bytes
    tail: bytes

    @classmethod
    def of(cls, path: str, offset: int) -> Ends:
        """The digests of a file as it is now."""
        with Path(path).open("rb") as opened:
            first = opened.read(min(_LOOK, offset))
            opened.seek(max(0, offset - _LOOK))
            last = opened.read(min(_LOOK, offset))
        return cls(offset, _digest(first), _digest(last))

    def check(self, path: str) -> None:
        """Raises SourceError if another file has the name now."""
        if Ends.of(path, self.offset) != self:
            raise replaced(path)


def same_file(descriptor: int, inode: int, path: str) -> None:
    """Raises SourceError if the open file is not the one with this inode."""
    if os.fstat(descriptor).st_ino != inode:
        raise replaced(path)


def replaced(path: str) -> SourceError:
    """The error for a file that was replaced before it was read."""
    return SourceError(
        f"{path!r} is not the file any more that this job began to read",
        hint='put it back as it was, or start over with restore="none"; files must not be replaced or rewritten while '
        "a job reads them",
    )


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()
