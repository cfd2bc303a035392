"""The identity of a stored file on this machine: what is unchanged need not be read or stored again."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Identity", "identity_of"]

Identity = tuple[int, ...]
"""The identity of content that was stored before, without reading it: of a file its device, inode, time of change and
size, of a frame its number."""


def identity_of(path: Path) -> Identity | None:
    """The identity of a file of this machine; None if it cannot be told."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
