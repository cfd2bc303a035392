"""The disk port: every file that has to outlive a crash is written through it.

The operations are those a crash can come between: what `write` wrote may be lost until `sync`, a name that `rename`,
`remove` or `make_folder` changed may be lost until `sync_folder`. A simulated disk can take the real one's place. A
second name from `link` behaves like a name from `rename`. All calls block; they run on the I/O threads. Errors are
OSError, as the operating system gives them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol

__all__ = ["CHUNK_BYTES", "FOREIGN", "NO_LINKS", "Disk", "FileInfo", "LocalDisk"]

CHUNK_BYTES: Final = 1 << 20
FOREIGN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EINVAL, errno.EROFS})
"""Errors for a folder far above, which this user may only pass through: it cannot be synced, and has long been
there."""
NO_LINKS: Final = frozenset(
    {
        errno.EXDEV,
        errno.EPERM,
        errno.EACCES,
        errno.EMLINK,
        errno.ENOTSUP,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
    }
)
"""Errors of a file system without second names."""


class FileInfo(NamedTuple):
    """A file's facts as the disk gives them, without following a symbolic link.

    `modified` counts microseconds since 1970. Two names with the same `identity`, size and time are one file, or the
    same file a moment ago; None if the disk cannot say. `writable_by_others`: by accounts outside of the group.
    """

    size: int
    modified: int
    identity: tuple[int, ...] | None = None
    is_link: bool = False
    writable_by_others: bool = False


class Disk(Protocol):
    """Files and folders by path."""

    def read(self, path: Path) -> bytes:
        """The whole file."""
        ...

    def chunks(self, path: Path) -> Iterator[bytes]:
        """The file in pieces of at most `CHUNK_BYTES`: less memory, and half of the time that filling a large new
        buffer takes."""
        ...

    def write(self, path: Path, data: bytes, *, private: bool = False) -> None:
        """Writes a file with these bytes, in place of an existing one. If `private`, only the owner can read a new
        file."""
        ...

    def append(self, path: Path, data: bytes, *, private: bool = False) -> None:
        """Appends these bytes to a file; makes an empty file first if there is none, as `write` does."""
        ...

    def sync(self, path: Path) -> None:
        """Waits until the file's content survives a crash."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Waits until the names in the folder survive a crash."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Renames a file, in place of an existing one; raises FileNotFoundError if `old` does not exist."""
        ...

    def link(self, old: Path, new: Path) -> None:
        """Gives a file a second name. Raises FileExistsError if `new` exists, another OSError if the file system, or
        the two places, cannot have links."""
        ...

    def remove(self, path: Path) -> None:
        """Removes a file; does nothing if there is none."""
        ...

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        """Makes a folder and the missing ones above it; if `private`, only the owner can read the folder itself."""
        ...

    def remove_folder(self, path: Path) -> None:
        """Removes a folder if it exists and is empty."""
        ...

    def exists(self, path: Path) -> bool:
        """Whether a file or folder has this name."""
        ...

    def info(self, path: Path) -> FileInfo:
        """Size, time and identity of a file or folder; raises FileNotFoundError if there is none."""
        ...

    def files_below(self, folder: Path) -> list[Path]:
        """Every file in the folder and its subfolders, sorted; none if the folder does not exist."""
        ...

    def folders_in(self, folder: Path) -> list[Path]:
        """Every folder directly in the folder, sorted; none if the folder does not exist."""
        ...

    def lock(self, path: Path) -> Callable[[], None]:
        """Locks this name until the returned function is called, or the process dies.

        Raises BlockingIOError if it is locked already; the text names the holder.
        """
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

    def chunks(self, path: Path) -> Iterator[bytes]:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def write(self, path: Path, data: bytes, *, private: bool = False) -> None:
        _write(path, data, os.O_TRUNC, private)

    def append(self, path: Path, data: bytes, *, private: bool = False) -> None:
        _write(path, data, os.O_APPEND, private)

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

    def link(self, old: Path, new: Path) -> None:
        os.link(old, new, follow_symlinks=False)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        path.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)

    def remove_folder(self, path: Path) -> None:
        with suppress(OSError):
            path.rmdir()

    def exists(self, path: Path) -> bool:
        return path.exists()

    def files_below(self, folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob("*") if path.is_file())

    def folders_in(self, folder: Path) -> list[Path]:
        return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def info(self, path: Path) -> FileInfo:
        found = os.lstat(path)
        return FileInfo(
            size=found.st_size,
            modified=found.st_mtime_ns // 1_000,
            identity=(found.st_dev, found.st_ino, found.st_mtime_ns),
            is_link=stat.S_ISLNK(found.st_mode),
            writable_by_others=bool(found.st_mode & stat.S_IWOTH),
        )

    def lock(self, path: Path) -> Callable[[], None]:
        import fcntl

        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(descriptor, 64).decode("ascii", errors="replace").strip()
                os.close(descriptor)
                raise BlockingIOError(errno.EWOULDBLOCK, f"held by process {holder or 'unknown'}") from error
            # Another process may have removed the file in between, and a lock on it would keep nobody out.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                    break
            os.close(descriptor)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode("ascii"))
        return partial(os.close, descriptor)


def _write(path: Path, data: bytes, how: int, private: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600 if private else 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
