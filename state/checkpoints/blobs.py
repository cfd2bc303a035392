"""The port to where checkpoints are kept: a local folder or an object store, both addressed by keys with slashes.

Content goes in under the name of its digest, so that writing it twice changes nothing, and a reader can tell whether it
is what was written. `create` is the one step that others can see as a whole or not at all. All calls block and may come
from several threads. They raise StateError and nothing else: DamagedError where something is missing or cannot be read
for good, UnsyncedError where the disk did not confirm that it holds what it was given, UnreachableError where an object
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
    """What is under a key; `modified` counts microseconds since 1970."""

    key: str
    size: int
    modified: int


class UnsyncedError(StateError):
    """The disk did not confirm that what it was given survives a crash; it must not be asked again for the same file:
    the second answer may be yes although the data are gone (PostgreSQL's "fsyncgate")."""


class UnreachableError(StateError):
    """The object store did not answer, or not as one that is well; it may do so later."""


class Blobs(Protocol):
    """Bytes by key."""

    @property
    def place(self) -> str:
        """Where it is, for messages; no credentials in it."""
        ...

    @property
    def awaited(self) -> str | None:
        """What a call that has not returned waits for; None where none does, or where no other machine is asked."""
        ...

    @property
    def exclusive(self) -> bool:
        """Whether `lock` keeps others out; where it does not, they can only be told from each other by claims."""
        ...

    def put(self, folder: str, chunks: Iterable[bytes]) -> Stored:
        """Store content as `folder/<digest>`, in place of what may be there. It survives a crash after `settle`."""
        ...

    def put_file(self, folder: str, path: Path, *, link: bool) -> Stored:
        """As `put`, of a file on this machine; `link`: it will not change and may share its bytes."""
        ...

    def get(self, key: str, limit: int) -> bytes:
        """What is under the key. DamagedError where there is nothing, or more than `limit` bytes."""
        ...

    def digest(self, key: str, limit: int) -> Stored:
        """Digest and length of what is under the key, as for `get`."""
        ...

    def fetch(self, key: str, path: Path, limit: int) -> Stored:
        """Copy what is under the key to a new file; what has been copied."""
        ...

    def link_out(self, key: str, path: Path) -> bool:
        """Make `path` a second name of the stored file; False where that cannot be."""
        ...

    def create(self, key: str, data: bytes, reach: Callable[[str], None]) -> bool:
        """Make a new entry in one step that survives a crash; False, and no change, where there is one. Reaches
        "written" and "named" where these are steps of their own."""
        ...

    def entries(self, prefix: str) -> list[BlobEntry]:
        """Everything below a folder, by key."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below one, "" for the top."""
        ...

    def remove(self, key: str) -> None:
        """Remove an entry; nothing happens where there is none."""
        ...

    def move(self, old: str, new: str) -> None:
        """Give an entry another key, under which there is none."""
        ...

    def settle(self) -> None:
        """Wait until everything put, moved and removed so far survives a crash."""
        ...

    def lock(self, key: str) -> Callable[[], None]:
        """Keep other processes out until what is returned is called, or this process dies. StateError where another
        one is in."""
        ...

    def sweep(self, prefix: str, before: int) -> None:
        """Remove what interrupted writes left; only while the lock is held. Where others may write at the same time,
        only what was last changed before that moment, in microseconds since 1970."""
        ...


def check_key(key: str) -> str:
    """The key, if it can be a path below a folder and nothing else.

    >>> check_key("job/manifests/0000000001")
    'job/manifests/0000000001'
    """
    if not _KEY.fullmatch(key):
        raise StateError(f"{key!r} cannot be the name of something stored")
    return key


def open_blobs(place: str | Path, disk: Disk, *, exclusive: bool = True) -> Blobs:
    """Where a path or URL leads: a local folder (also `file://`), or an object store (`s3://`, `gs://`, `az://`,
    `memory://`). `exclusive`: a local folder keeps a second process out by a lock. Credentials and endpoints of object
    stores come from their usual environment variables. Raises ConfigError for anything else.

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
