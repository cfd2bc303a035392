"""One checkpoint while it is written: files go in from several threads and processes, then the manifest, or all is
dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from streamflow.errors import StateError
from streamflow.state.checkpoints.blobs import UnsyncedError
from streamflow.state.checkpoints.collection import Collection
from streamflow.state.checkpoints.file_identities import Identity
from streamflow.state.checkpoints.frame_identities import FrameIdentities
from streamflow.state.checkpoints.manifest import Manifest, StoredFile
from streamflow.state.checkpoints.part_writer import PartWriter

if TYPE_CHECKING:
    from streamflow.state.checkpoints.store import CheckpointStore

__all__ = ["CheckpointWriter"]


class CheckpointWriter(PartWriter):
    """Made by `CheckpointStore.session`; ends with `publish` or `abandon`.

    After a failure the checkpoint can only be abandoned.
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
        super().__init__(
            store.blobs,
            folder,
            number,
            generation,
            link=link,
            known=known,
            frames=frames,
            ready=collection.wait,
            reach=reach,
        )
        self._store = store
        self._collection = collection

    def wait(self) -> None:
        """Waits for a removal of old content that is under way: none begins before this writer ends, so that workers
        may store their parts from now on. Blocks."""
        self._collection.wait()

    def adopt(self, files: Iterable[StoredFile]) -> None:
        """Lets the manifest name files that a worker has stored for this checkpoint, and settled. Raises StateError
        for those of another generation."""
        found = list(files)
        for file in found:
            if file.generation != self.generation:
                raise StateError(
                    f"checkpoint {self.number} is in generation {self.generation}, and a worker has stored "
                    f"{file.name} in generation {file.generation}"
                )
        with self._guard:
            self._put.update(file.digest for file in found)

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

    def abandon(self, failures: Iterable[Exception] = ()) -> None:
        """Abandons the checkpoint; its content is removed when nothing else needs it. `failures` are those of workers
        that stored parts of it. Does nothing after `publish`."""
        unsynced = any(isinstance(each, UnsyncedError) for each in (self.failure, *failures))
        self._store.end(self, unsynced=unsynced)
