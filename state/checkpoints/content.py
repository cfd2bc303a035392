"""The content of one checkpoint on this machine: each file was fetched once, and compared with its digest meanwhile."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Container, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Protocol, Self, TypeVar

from streamflow.errors import DamagedError
from streamflow.state.checkpoints.blobs import Blobs, Stored
from streamflow.state.checkpoints.file_identities import Identity, identity_of
from streamflow.state.checkpoints.manifest import Manifest, StoredFile

__all__ = ["Content", "Each", "FileReader", "check_stored", "identities_of", "one_by_one"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Each(Protocol):
    """Calls a function for each item, maybe for several at the same time; returns the results in order."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> list[Result]: ...


class FileReader(Protocol):
    """Reads files of a checkpoint, verified."""

    def read(self, file: StoredFile) -> bytes: ...


class Content:
    """The content of a checkpoint, from `fetched` on until `close`: immutable files in `folder` (None: in a temporary
    one), all others in memory until they have been read. With `wanted` only the files with these paths are kept."""

    def __init__(
        self,
        manifest: Manifest,
        blobs: Blobs,
        key_of: Callable[[StoredFile], str],
        folder: Path | None,
        wanted: Container[str] | None = None,
    ) -> None:
        self.manifest = manifest
        self._files = [
            (path, file) for path, file in manifest.all_files() if wanted is None or path in wanted
        ]
        self._blobs = blobs
        self._key_of = key_of
        self._folder = folder
        self._data: dict[tuple[str, int], bytes] = {}
        self._left = Counter(self._name(file) for _, file in self._files if not file.immutable)
        """The number of unread files with each content."""

    def fetched(self, each: Each, *, check_others: bool = False) -> Self:
        """Fetches every wanted file; with `check_others` the others are compared with their digests as well. Raises
        DamagedError that names the first ones that are missing or damaged."""
        files = {(self._name(file), file.immutable): (path, file) for path, file in self._files}
        others = dict[tuple[str, int], tuple[str, StoredFile]]()
        if check_others:
            kept = {name for name, _ in files}
            every = {self._name(file): (path, file) for path, file in self.manifest.all_files()}
            others = {name: named for name, named in every.items() if name not in kept}
        try:
            if any(file.immutable for _, file in files.values()):
                self._folder = self._folder or Path(tempfile.mkdtemp(prefix="streamflow-fetched-"))
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            problems = [*each(self._fetched, files.values()), *each(self._checked, others.values())]
            found = [problem for problem in problems if problem is not None]
            if found:
                raise DamagedError("; ".join(found[:3]))
        except BaseException:
            self.close()
            raise
        return self

    def immutable_files(self) -> list[StoredFile]:
        """The immutable files that are in the folder."""
        return [file for _, file in self._files if file.immutable]

    def read(self, file: StoredFile) -> bytes:
        """Returns a file's content, which is forgotten once all files that have it have been read."""
        name = self._name(file)
        if file.immutable:
            return self.path(file).read_bytes()
        self._left[name] -= 1
        return self._data[name] if self._left[name] > 0 else self._data.pop(name)

    def link(self, file: StoredFile, path: Path) -> None:
        """Puts an immutable file at `path`, which is not there yet."""
        try:
            os.link(self.path(file), path)
        except OSError:
            shutil.copyfile(self.path(file), path)
            path.chmod(0o600)

    def path(self, file: StoredFile) -> Path:
        """The place of an immutable file."""
        assert self._folder is not None
        return self._folder / f"{file.generation}-{file.digest}-{file.size}"

    def close(self) -> None:
        """Removes the folder and forgets the rest."""
        self._data.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _name(self, file: StoredFile) -> tuple[str, int]:
        # The same content under two sizes is two questions.
        return self._key_of(file), file.size

    def _fetched(self, named: tuple[str, StoredFile]) -> str | None:
        """Fetches one file; returns what is wrong with it, None if nothing is."""
        path, file = named
        key = self._key_of(file)
        try:
            if not file.immutable:
                data = self._blobs.get(key, file.size)
                stored = Stored(blake2b(data, digest_size=32).hexdigest(), len(data))
                self._data[key, file.size] = data
            elif self._blobs.link_out(key, self.path(file)):
                stored = self._blobs.digest(key, file.size)
            else:
                stored = self._blobs.fetch(key, self.path(file), file.size)
            check_stored(file, key, stored)
        except DamagedError as error:
            return f"{path}: {error.message}"
        return None

    def _checked(self, named: tuple[str, StoredFile]) -> str | None:
        """Reads one file without keeping it; returns what is wrong with it, None if nothing is."""
        path, file = named
        key = self._key_of(file)
        try:
            check_stored(file, key, self._blobs.digest(key, file.size))
        except DamagedError as error:
            return f"{path}: {error.message}"
        return None


def identities_of(content: Content) -> dict[Identity, StoredFile]:
    """The immutable files of a checkpoint's content, by the identity that they have on this machine."""
    there = {identity_of(content.path(file)): file for file in content.immutable_files()}
    return {identity: file for identity, file in there.items() if identity is not None}


def check_stored(file: StoredFile, key: str, stored: Stored) -> None:
    """Raises DamagedError if another content than the file's is stored under the key."""
    if stored.size != file.size:
        raise DamagedError(f"{file.name} ({key}) has {stored.size} bytes, not {file.size}")
    if stored.digest != file.digest:
        raise DamagedError(f"{file.name} ({key}) is not what was written: its digest differs")


def one_by_one(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`Each` on the calling thread."""
    return [function(item) for item in items]
