"""A backend's content at one moment, as files: stored in a checkpoint, and opened again from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["FilesInMemory", "Saved", "SavedFile", "SavedFiles", "SavedKind"]

SavedKind = Literal["memory", "rocksdb"]


@dataclass(frozen=True, slots=True)
class SavedFile:
    """One file of a saved backend, on the disk or in memory.

    `immutable`: whatever this backend saves under this name later has the same content.
    """

    name: str
    immutable: bool = False
    path: Path | None = None
    data: bytes | None = None


class Saved(Protocol):
    """The content of a backend at the moment of `save`; the backend goes on meanwhile."""

    @property
    def kind(self) -> SavedKind: ...

    def files(self) -> Iterable[SavedFile]:
        """The files to be stored; may block."""
        ...

    def release(self) -> None:
        """Removes files that existed only to be stored; may be called twice."""
        ...


class SavedFiles(Protocol):
    """The files of a saved backend in their present place; all content has been verified."""

    @property
    def names(self) -> Sequence[str]: ...

    def read(self, name: str) -> bytes: ...

    def fetch(self, name: str, path: Path) -> None:
        """Puts the file's content at `path`, which does not exist yet; may be a hard link."""
        ...


class FilesInMemory:
    """Files by name, in memory: for tests, and for small content.

    >>> files = FilesInMemory({"a.b": b"content"})
    >>> files.names, files.read("a.b")
    (['a.b'], b'content')
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    @classmethod
    def of(cls, saved: Saved) -> FilesInMemory:
        """The present files of a saved backend."""
        return cls({file.name: _content(file) for file in saved.files()})

    @property
    def names(self) -> Sequence[str]:
        return list(self._files)

    def read(self, name: str) -> bytes:
        return self._files[name]

    def fetch(self, name: str, path: Path) -> None:
        path.write_bytes(self._files[name])


def _content(file: SavedFile) -> bytes:
    if file.data is not None:
        return file.data
    return b"" if file.path is None else file.path.read_bytes()
