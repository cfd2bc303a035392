"""The files of one checkpoint, written by one process: by the one that publishes it, or by one of its workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from streamflow.core.serde import frame_to_ipc
from streamflow.errors import StateError
from streamflow.state.checkpoints.blobs import Blobs, Stored
from streamflow.state.checkpoints.file_identities import Identity, identity_of
from streamflow.state.checkpoints.frame_identities import FrameIdentities
from streamflow.state.checkpoints.manifest import StoredFile

__all__ = ["PartWriter"]

_BLOB_WRITTEN: Final = "store.blob_written"


class PartWriter:
    """Writes files of checkpoint `number` into `folder`, that of its `generation`; `link`: immutable ones as links to
    them, if that can be. Its calls may come from several threads. Failures raise StateError.

    `known` gives what was stored before, by identity. `ready` is called before anything is stored.
    """

    def __init__(
        self,
        blobs: Blobs,
        folder: str,
        number: int,
        generation: int,
        *,
        link: bool,
        known: Callable[[], Mapping[Identity, StoredFile]],
        frames: FrameIdentities,
        ready: Callable[[], None],
        reach: Callable[[str], None],
    ) -> None:
        self.number = number
        self.generation = generation
        self.link = link
        self.identities: dict[Identity, StoredFile] = {}
        """The immutable files and frames that it stored or found stored."""
        self.failure: StateError | None = None
        self._blobs = blobs
        self._folder = folder
        self._known = known
        self._frames = frames
        self._first_frame = frames.next
        self._ready = ready
        self._reach = reach
        self._guard = threading.Lock()
        self._there: dict[str, int] | None = None
        self._put: set[str] = set()
        """The digests of what a manifest may name."""

    def put(self, chunks: Iterable[bytes], name: str) -> StoredFile:
        """Stores a file of the checkpoint."""
        stored = self._storing(lambda: self._blobs.put(self._folder, chunks))
        return StoredFile(name, stored.size, stored.digest, self.generation)

    def put_file(self, path: Path, name: str, *, immutable: bool) -> StoredFile:
        """Store a file of this machine; one that is `immutable` as a link to it, if that can be."""
        link = immutable and self.link
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
        self._ready()
        file = self._already(identity)
        if file is None:
            return None
        self._remember(identity, file)
        return msgspec.structs.replace(file, name=name)

    def _remember(self, identity: Identity | None, file: StoredFile) -> None:
        if identity is not None:
            with self._guard:
                self.identities[identity] = file

    def _storing(self, store: Callable[[], Stored]) -> Stored:
        self._ready()
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
