"""One checkpoint while it is written: files go in from several threads, then the manifest, or all is dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import polars as pl

from streamflow.core.serde import frame_to_ipc
from streamflow.errors import StateError
from streamflow.state.checkpoints.blobs import Stored, UnsyncedError
from streamflow.state.checkpoints.collection import Collection
from streamflow.state.checkpoints.frame_identities import FrameIdentities
from streamflow.state.checkpoints.manifest import Manifest, StoredFile

if TYPE_CHECKING:
    from streamflow.state.checkpoints.store import CheckpointStore

__all__ = ["CheckpointWriter", "Identity", "identity_of"]

Identity = tuple[int, ...]
"""The identity of content that was stored before, without reading it: of a file its device, inode, time of change and
size, of a frame its number."""

_BLOB_WRITTEN: Final = "store.blob_written"


def identity_of(path: Path) -> Identity | None:
    """The identity of a file of this machine; None if it cannot be told."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


class CheckpointWriter:
    """Made by `CheckpointStore.session`; ends with `publish` or `abandon`. Its calls may come from several threads.

    Failures raise StateError; the checkpoint can only be abandoned then.
    """

    def __init__(
        self,
        store: CheckpointStore,
        folder: str,
        number: int,
        generation: int,
        *,
        link: bool,
        known: Callable[[], Mapping[Identity, StoredFile]],
        frames: FrameIdentities,
        collection: Collection,
        reach: Callable[[str], None],
    ) -> None:
        self.number = number
        self.generation = generation
        self.identities: dict[Identity, StoredFile] = {}
        """The immutable files and frames that it stored or found stored."""
        self.failure: StateError | None = None
        self._store = store
        self._blobs = store.blobs
        self._folder = folder
        self._link = link
        self._known = known
        self._frames = frames
        self._first_frame = frames.next
        self._collection = collection
        self._reach = reach
        self._guard = threading.Lock()
        self._there: dict[str, int] | None = None
        self._put: set[str] = set()

    def put(self, chunks: Iterable[bytes], name: str) -> StoredFile:
        """Stores a file of the checkpoint."""
        stored = self._storing(lambda: self._blobs.put(self._folder, chunks))
        return StoredFile(name, stored.size, stored.digest, self.generation)

    def put_file(self, path: Path, name: str, *, immutable: bool) -> StoredFile:
        """Store a file of this machine; one that is `immutable` as a link to it, if that can be."""
        link = immutable and self._link
        stored = self._storing(lambda: self._blobs.put_file(self._folder, path, link=link))
        file = StoredFile(name, stored.size, stored.digest, self.generation, immutable=immutable)
        if immutable:
            self._remember(identity_of(path), file)
        return file

    def stored(self, path: Path, name: str) -> StoredFile | None:
        """An immutable file of this machine that was stored before in this generation, or fetched from it; it is not
        read again. None where it was not."""
        return self._found(identity_of(path), name)

    def lasts(self, frame: pl.DataFrame) -> bool:
        """Whether a frame was there already when an earlier checkpoint was written, so that it may stay for more."""
        return self._frames.of(frame) < self._first_frame

    def put_frame(self, frame: pl.DataFrame, name: str) -> StoredFile:
        """Stores a frame as a file of its own, as sealed Arrow IPC."""
        file = self.put([frame_to_ipc(frame)], name)
        self._remember((self._frames.of(frame),), file)
        return file

    def stored_frame(self, frame: pl.DataFrame, name: str) -> StoredFile | None:
        """A frame that was stored before in this generation; it is not written again. None where it was not."""
        return self._found((self._frames.of(frame),), name)

    def _found(self, identity: Identity | None, name: str) -> StoredFile | None:
        self._collection.wait()
        file = self._already(identity)
        if file is None:
            return None
        self._remember(identity, file)
        return msgspec.structs.replace(file, name=name)

    def _remember(self, identity: Identity | None, file: StoredFile) -> None:
        if identity is not None:
            with self._guard:
                self.identities[identity] = file

    def publish(self, manifest: Manifest) -> Manifest:
        """Publishes the checkpoint: written content survives a crash first, then the manifest appears in one step.
        Returns the manifest as it was stored.

        A StateError leaves it unpublished; only if an object store's answer got lost it may turn up later, complete.
        """
        if self.failure is not None:
            raise StateError(f"checkpoint {self.number} has failed already: {self.failure}")
        for path, file in manifest.all_files():
            if file.generation != self.generation or file.digest not in self._put:
                raise StateError(f"checkpoint {self.number} names {path}, which was not stored for it")
        try:
            return self._store.publish(self, manifest)
        except StateError as error:
            self.failure = error
            self.abandon()
            raise

    def abandon(self) -> None:
        """Abandons the checkpoint; its content is removed when nothing else needs it. Does nothing after `publish`."""
        self._store.end(self, unsynced=isinstance(self.failure, UnsyncedError))

    def _storing(self, store: Callable[[], Stored]) -> Stored:
        self._collection.wait()
        try:
            stored = store()
        except StateError as error:
            self.failure = error
            raise
        with self._guard:
            self._put.add(stored.digest)
        self._reach(_BLOB_WRITTEN)
        return stored

    def _already(self, identity: Identity | None) -> StoredFile | None:
        if identity is None:
            return None
        with self._guard:
            file = self._known().get(identity)
            if file is None or file.generation != self.generation:
                return None
            if self._there is None:
                # One listing instead of one question for each file.
                self._there = {
                    entry.key.rpartition("/")[2]: entry.size for entry in self._blobs.entries(self._folder)
                }
            if self._there.get(file.digest) != file.size:
                return None
            self._put.add(file.digest)
            return file
