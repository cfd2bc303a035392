"""The port to the place of checkpoints: a local folder or an object store, both addressed by keys with slashes.

Content goes in under the name of its digest, so that writing it twice changes nothing, and a reader can tell whether
it is unchanged. `create` is the one step that others can see as a whole or not at all. All calls block and may come
from several threads. They raise StateError and nothing else: DamagedError if content is missing or cannot be read
for good, UnsyncedError if the disk did not confirm that it holds written content, UnreachableError if an object
store did not answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from streamflow.errors import ConfigError, StateError

if TYPE_CHECKING:
    from streamflow.disk import Disk

__all__ = ["BlobEntry", "Blobs", "Stored", "UnreachableError", "UnsyncedError", "check_key", "open_blobs"]

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,127})*")


@dataclass(frozen=True, slots=True)
class Stored:
    """Content by its blake2b-256 digest and its length."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """The entry of a key; `modified` counts microseconds since 1970."""

    key: str
    size: int
    modified: int


class UnsyncedError(StateError):
    """The disk did not confirm that written content survives a crash. It must not be asked again for the same file:
    the second answer may be yes although the data are gone (PostgreSQL's "fsyncgate")."""


class UnreachableError(StateError):
    """The object store did not answer, or with an error that may pass; it may answer later."""


class Blobs(Protocol):
    """Bytes by key."""

    @property
    def place(self) -> str:
        """The place for messages; without credentials."""
        ...

    @property
    def awaited(self) -> str | None:
        """The request that a call waits for; None if no call waits, or if no other machine is asked."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether `lock` keeps other processes out; if not, only claims tell them apart."""
        ...

    def put(self, folder: str, chunks: Iterable[bytes]) -> Stored:
        """Stores content as `folder/<digest>`, in place of existing content. It survives a crash after `settle`."""
        ...

    def put_file(self, folder: str, path: Path, *, link: bool) -> Stored:
        """Stores a file of this machine, like `put`; `link`: it will not change and may share its bytes."""
        ...

    def get(self, key: str, limit: int) -> bytes:
        """The content of the key. Raises DamagedError if it is missing, or longer than `limit` bytes."""
        ...

    def digest(self, key: str, limit: int) -> Stored:
        """Digest and length of the key's content; raises like `get`."""
        ...

    def fetch(self, key: str, path: Path, limit: int) -> Stored:
        """Copies the key's content to a new file; returns its digest and length."""
        ...

    def link_out(self, key: str, path: Path) -> bool:
        """Makes `path` a second name of the stored file; returns False if that is impossible."""
        ...

    def create(self, key: str, data: bytes, reach: Callable[[str], None]) -> bool:
        """Makes a new entry in one step that survives a crash; returns False, and changes nothing, if there is one.
        Reaches "written" and "named" if these are steps of their own."""
        ...

    def entries(self, prefix: str) -> list[BlobEntry]:
        """All entries below a folder, by key."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below one, "" for the top."""
        ...

    def remove(self, key: str) -> None:
        """Removes an entry; does nothing if there is none."""
        ...

    def move(self, old: str, new: str) -> None:
        """Gives an entry another key, which must be free."""
        ...

    def settle(self) -> None:
        """Waits until everything put, moved and removed so far survives a crash."""
        ...

    def lock(self, key: str) -> Callable[[], None]:
        """Keeps other processes out until the returned function is called, or this process dies. Raises StateError
        if another process is in."""
        ...

    def sweep(self, prefix: str, before: int) -> None:
        """Removes leftovers of interrupted writes; only while the lock is held. If others may write at the same
        time, only those last changed before that moment, in microseconds since 1970."""
        ...


def check_key(key: str) -> str:
    """The key, if it can only be a path below a folder; raises otherwise.

    >>> check_key("job/manifests/0000000001")
    'job/manifests/0000000001'
    """
    if not _KEY.fullmatch(key):
        raise StateError(f"{key!r} cannot be the name of something stored")
    return key


def open_blobs(place: str | Path, disk: Disk, *, exclusive: bool = True) -> Blobs:
    """The place at a path or URL: a local folder (also `file://`), or an object store (`s3://`, `gs://`, `az://`,
    `memory://`). `exclusive`: a local folder keeps a second process out by a lock. Credentials and endpoints of
    object stores come from their usual environment variables. Raises ConfigError for anything else.

    >>> from streamflow.disk import LocalDisk
    >>> open_blobs("memory://docs", LocalDisk()).place
    'memory://docs'
    """
    from streamflow.state.checkpoints.local_blobs import LocalBlobs

    text = str(place)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return LocalBlobs(Path(place), disk, exclusive=exclusive)
    if scheme == "file":
        return LocalBlobs(Path(rest), disk, exclusive=exclusive)
    if scheme in ("s3", "gs", "az", "memory"):
        from streamflow.state.checkpoints.object_blobs import ObjectBlobs

        return ObjectBlobs(text)
    raise ConfigError(
        f"checkpoints cannot be kept at {scheme}://", hint="use a folder, s3://, gs://, az:// or memory://"
    )
