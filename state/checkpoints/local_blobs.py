"""Checkpoints in a local folder: content is synced before it gets its name, folders before a manifest names it.

Every byte goes through the disk port. Files are written under a temporary name, synced and renamed, so that a file
with its final name is complete. Folders are 0700, files 0600. No symbolic link is followed below the root, and a
root that other accounts may write to is refused: they could put a checkpoint there.
"""

from __future__ import annotations

import errno
import itertools
import os
import platform
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final
from zlib import crc32

from streamflow.disk import FOREIGN, NO_LINKS, Disk
from streamflow.errors import DamagedError, StateError
from streamflow.state.checkpoints.blobs import BlobEntry, Stored, UnsyncedError, check_key

__all__ = ["LocalBlobs"]

_PERMISSIONS: Final = "check the folder's permissions, or give another checkpoint_dir"
_HINTS: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "the file system is read-only: give another checkpoint_dir",
    errno.ENOENT: "nothing can be made there: give another checkpoint_dir",
    errno.ENOTDIR: "a part of the path is a file: give another checkpoint_dir",
}
_PIECE: Final = 1 << 20
_TEMPORARY: Final = ".tmp-"


def _nothing_held() -> None:
    """Releases nothing: the lock is another process's."""


class LocalBlobs:
    """Blobs in a folder of this machine, which is made when content is first stored. If it is not `exclusive`, the
    lock keeps no process out: claims decide, as in an object store."""

    awaited = None

    def __init__(self, root: Path, disk: Disk, *, exclusive: bool = True) -> None:
        self.exclusive = exclusive
        self._disk = disk
        self._root = root.absolute()
        with _told("read", "the root", self.place), suppress(FileNotFoundError):
            if disk.info(self._root).is_link:
                self._root = self._root.resolve()
        self._guard = threading.Lock()
        self._settling = threading.Lock()
        self._unsynced: set[Path] = set()
        self._used: set[Path] = set()
        """Folders that it has written to."""
        self._temporaries = itertools.count(1)
        # Where others may write at the same time, none may have a name of another's.
        self._mine = "" if exclusive else f"{crc32(platform.node().encode()):08x}-{os.getpid()}-{id(self):x}-"

    @property
    def place(self) -> str:
        return str(self._root)

    def put(self, folder: str, chunks: Iterable[bytes]) -> Stored:
        digest, size = blake2b(digest_size=32), 0
        place = self._folder(folder)
        with _told("write to", folder, self.place), self._temporary(place) as temporary:
            store = self._disk.write
            for piece in _pieces(chunks):
                digest.update(piece)
                size += len(piece)
                store(temporary, piece, private=True)
                store = self._disk.append
            self._sync(temporary)
            self._disk.rename(temporary, place / digest.hexdigest())
            self._changed(place)
        return Stored(digest.hexdigest(), size)

    def put_file(self, folder: str, path: Path, *, link: bool) -> Stored:
        try:
            data = self._disk.read(path)
        except OSError as error:
            raise StateError(f"cannot read {path}: {_reason(error)}") from error
        if not link:
            return self.put(folder, [data])
        stored = Stored(blake2b(data, digest_size=32).hexdigest(), len(data))
        place = self._folder(folder)
        with _told("write to", folder, self.place):
            self._sync(path)
            try:
                self._link(path, place / stored.digest, place)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                return self.put(folder, [data])
            self._changed(place)
        return stored

    def get(self, key: str, limit: int) -> bytes:
        with _told("read", key, self.place):
            return self._disk.read(self._no_larger(key, limit))

    def digest(self, key: str, limit: int) -> Stored:
        digest, size = blake2b(digest_size=32), 0
        with _told("read", key, self.place):
            for chunk in self._disk.chunks(self._no_larger(key, limit)):
                digest.update(chunk)
                size += len(chunk)
        return Stored(digest.hexdigest(), size)

    def fetch(self, key: str, path: Path, limit: int) -> Stored:
        data = self.get(key, limit)
        try:
            self._disk.write(path, data, private=True)
        except OSError as error:
            raise StateError(f"cannot write {path}: {_reason(error)}") from error
        return Stored(blake2b(data, digest_size=32).hexdigest(), len(data))

    def link_out(self, key: str, path: Path) -> bool:
        try:
            self._disk.link(self._path(key), path)
        except OSError:
            return False
        return True

    def create(self, key: str, data: bytes, reach: Callable[[str], None]) -> bool:
        path = self._path(key)
        place = self._folder(key.rpartition("/")[0])
        with _told("write", key, self.place), self._temporary(place) as temporary:
            self._disk.write(temporary, data, private=True)
            self._sync(temporary)
            reach("written")
            if not self._name(temporary, path):
                self._disk.remove(temporary)
                return False
            reach("named")
            self._disk.remove(temporary)
            self._changed(place)
            # Where this fails, the name stays: what it names is whole, and after a crash it may be there or not.
            self._settle()
        return True

    def entries(self, prefix: str) -> list[BlobEntry]:
        top, found = self._path(prefix), list[BlobEntry]()
        with _told("read", prefix, self.place):
            for path in self._disk.files_below(top):
                if path.name.startswith(_TEMPORARY):
                    continue
                with suppress(FileNotFoundError):  # removed meanwhile
                    info = self._disk.info(path)
                    key = path.relative_to(self._root).as_posix()
                    found.append(BlobEntry(key, info.size, info.modified))
        return sorted(found, key=lambda entry: entry.key)

    def folders(self, prefix: str) -> list[str]:
        place = self._path(prefix) if prefix else self._root
        with _told("read", prefix or "the root", self.place):
            return [folder.name for folder in self._disk.folders_in(place)]

    def remove(self, key: str) -> None:
        path = self._path(key)
        with _told("remove", key, self.place):
            self._disk.remove(path)
        self._changed(path.parent)

    def move(self, old: str, new: str) -> None:
        source, target = self._path(old), self._path(new)
        place = self._folder(new.rpartition("/")[0])
        with _told("move", old, self.place):
            if not self._name(source, target):
                raise StateError(f"{new} is there already in {self.place}")
            self._changed(place)
            self._settle()  # or a crash might take the old name and not give the new one
            self._disk.remove(source)
        self._changed(source.parent)

    def settle(self) -> None:
        self._settle()

    def lock(self, key: str) -> Callable[[], None]:
        path = self._path(key)
        self._folder(key.rpartition("/")[0])
        try:
            with _told("lock", key, self.place):
                self._adopt(path.parent)
                return self._disk.lock(path)
        except StateError as error:
            if isinstance(error.__cause__, BlockingIOError):
                if not self.exclusive:
                    return _nothing_held
                raise StateError(
                    f"the checkpoints in {path.parent} are in use: {error.__cause__.strerror}",
                    hint="one process at a time runs a job; stop that one, or give another checkpoint_dir or job name",
                ) from error
            raise

    def sweep(self, prefix: str, before: int) -> None:
        top = self._path(prefix)
        with _told("clean", prefix, self.place):
            for path in self._disk.files_below(top):
                if path.name.startswith(_TEMPORARY) and self._is_left(path, before):
                    self._disk.remove(path)
            for folder in self._disk.folders_in(top):
                if self._is_left(folder, before):
                    self._disk.remove_folder(folder)

    def _is_left(self, path: Path, before: int) -> bool:
        """Whether no process is still at work on it."""
        if self.exclusive:
            return True
        try:
            return self._disk.info(path).modified < before
        except FileNotFoundError:
            return False

    def _no_larger(self, key: str, limit: int) -> Path:
        """The path of a key, whose size has been checked."""
        path = self._path(key)
        size = self._disk.info(path).size
        if size > limit:
            raise DamagedError(f"{key} has {size} bytes, {limit} were expected")
        return path

    def _path(self, key: str) -> Path:
        """The path of a key, if no symbolic link leads there."""
        self._check_root()
        folder, _, name = check_key(key).rpartition("/")
        above = _folders(self._root, folder)
        place = above[-1] / name
        with _told("read", key, self.place):
            for each in (*above[1:], place):
                try:
                    is_link = self._disk.info(each).is_link
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if is_link:
                    raise StateError(f"{each} is a symbolic link", hint="checkpoints are kept without links")
        return place

    def _check_root(self) -> None:
        with _told("read", "the root", self.place), suppress(FileNotFoundError):
            if self._disk.info(self._root).writable_by_others:
                raise StateError(
                    f"every account of this machine may write to {self._root}",
                    hint=f"make it private: chmod o-w {self._root}",
                )

    def _folder(self, key: str) -> Path:
        """The folder of this key, made if it is missing."""
        folder = self._path(key)
        with _told("make", key, self.place):
            missing: list[Path] = []
            for place in (folder, *folder.parents):
                if self._disk.exists(place):
                    break
                missing.append(place)
            for place in reversed(missing):
                self._disk.make_folder(place, private=True)
                self._changed(place.parent)
        if not self.exclusive and folder not in self._used:
            # Another process may have made it, and have died before it synced the folders above.
            self._used.add(folder)
            self._changed(*folder.parents)
        return folder

    @contextmanager
    def _temporary(self, folder: Path) -> Generator[Path]:
        with self._guard:
            path = folder / f"{_TEMPORARY}{self._mine}{next(self._temporaries)}"
        try:
            yield path
        except (OSError, StateError):
            with suppress(OSError):
                self._disk.remove(path)
            raise

    def _link(self, old: Path, new: Path, folder: Path) -> None:
        try:
            self._disk.link(old, new)
        except FileExistsError:
            # Existing content may be damaged by now; a manifest may name it: it must not be gone for a moment.
            with self._temporary(folder) as temporary:
                self._disk.link(old, temporary)
                self._disk.rename(temporary, new)
                self._disk.remove(temporary)  # renaming between two names of one file does nothing

    def _name(self, temporary: Path, path: Path) -> bool:
        """Gives a file its final name unless that is taken."""
        try:
            self._disk.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # Where there are no links, nothing keeps others from making the name in between but the lock.
            if self._disk.exists(path):
                return False
            self._disk.rename(temporary, path)
        return True

    def _sync(self, path: Path) -> None:
        try:
            self._disk.sync(path)
        except OSError as error:
            raise UnsyncedError(f"{path} may not survive a crash: {_reason(error)}") from error

    def _changed(self, *folders: Path) -> None:
        with self._guard:
            self._unsynced.update(folders)

    def _adopt(self, folder: Path) -> None:
        """Syncs a folder: a killed process may have made, named and removed files without syncing; a power failure
        would otherwise undo changes that this process builds upon."""
        below = [folder]
        for place in below:
            below.extend(self._disk.folders_in(place))
        self._changed(*below, *folder.parents)

    def _settle(self) -> None:
        with (
            self._settling
        ):  # or a second caller would return before the first has synced what both have written
            self._sync_folders()

    def _sync_folders(self) -> None:
        with self._guard:
            folders, self._unsynced = sorted(self._unsynced), set[Path]()
        for number, folder in enumerate(folders):
            try:
                self._disk.sync_folder(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in FOREIGN and folder in self._root.parents:
                    continue
                self._changed(*folders[number:])
                raise UnsyncedError(f"{folder} may not survive a crash: {_reason(error)}") from error


@lru_cache
def _folders(root: Path, folder: str) -> tuple[Path, ...]:
    """The root, and the folders on the way to that of this key. Each is asked for with each blob below it."""
    names = folder.split("/") if folder else []
    return tuple(itertools.accumulate(names, Path.joinpath, initial=root))


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of at least a megabyte; one that may be empty, if there are fewer."""
    waiting: list[bytes] = []
    size = 0
    first = True
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size, first = [], 0, False
    if waiting or first:
        yield b"".join(waiting)


@contextmanager
def _told(action: str, what: str, place: str) -> Generator[None]:
    """A context whose OSErrors become StateErrors that name the failed action: DamagedError for files that are missing
    or cannot be read."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and action != "make":
            raise DamagedError(f"{what} is missing in {place}") from error
        if error.errno == errno.EIO and action == "read":
            raise DamagedError(f"{what} in {place} cannot be read: {_reason(error)}") from error
        raise StateError(
            f"cannot {action} {what} in {place}: {_reason(error)}", hint=_HINTS.get(error.errno or 0)
        ) from error


def _reason(error: OSError) -> str:
    """The operating system's words for it.

    >>> _reason(OSError(28, "No space left on device", "/a/b"))
    'No space left on device'
    """
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))
