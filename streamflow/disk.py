"""The disk port: every file that has to outlive a crash is written through it.

The operations are those a crash can come between: what `write` wrote may be lost until `sync`, a name that `rename`,
`remove` or `make_folder` changed may be lost until `sync_folder`. A simulated disk can take the real one's place.
All calls block; they run on the I/O threads. Errors are OSError, as the operating system gives them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

__all__ = ["Disk", "LocalDisk"]


class Disk(Protocol):
    """Files and folders by path."""

    def read(self, path: Path) -> bytes:
        """The whole file."""
        ...

    def write(self, path: Path, data: bytes) -> None:
        """A file of these bytes, in place of one that may be there."""
        ...

    def append(self, path: Path, data: bytes) -> None:
        """These bytes behind what is there; an empty file is made first where there is none."""
        ...

    def sync(self, path: Path) -> None:
        """Wait until the file's content survives a crash."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in the folder survive a crash."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, in place of a file that may have it. FileNotFoundError where `old` is not there."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file; nothing happens where there is none."""
        ...

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it, where they are not there."""
        ...

    def remove_folder(self, path: Path) -> None:
        """Remove a folder if it is there and empty."""
        ...

    def exists(self, path: Path) -> bool:
        """Whether a file or folder has this name."""
        ...

    def files_below(self, folder: Path) -> list[Path]:
        """Every file in the folder and those in it, sorted; none where there is no such folder."""
        ...


class LocalDisk:
    """The machine's file systems.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     disk, path = LocalDisk(), Path(folder, "a", "b")
    ...     disk.make_folder(path.parent)
    ...     disk.append(path, b"one")
    ...     disk.sync(path)
    ...     disk.rename(path, path.with_name("c"))
    ...     disk.sync_folder(path.parent)
    ...     disk.read(path.with_name("c")), disk.exists(path)
    (b'one', False)
    """

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)

    def append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)

    def sync(self, path: Path) -> None:
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def remove_folder(self, path: Path) -> None:
        with suppress(OSError):
            path.rmdir()

    def exists(self, path: Path) -> bool:
        return path.exists()

    def files_below(self, folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.is_file())
