"""A worker's side of the checkpoints of its job: it stores its part of each, and reads its share of one.

The coordinator, in another process, has the claim: it tells numbers and generations, publishes manifests and removes
old content. A worker stores content under the name of its digest and never removes any, so that one which goes on
after it was given up does no harm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container
from pathlib import Path

from streamflow.state.checkpoints.blobs import Blobs, UnsyncedError
from streamflow.state.checkpoints.content import Content, Each, identities_of, one_by_one
from streamflow.state.checkpoints.file_identities import Identity
from streamflow.state.checkpoints.frame_identities import FrameIdentities
from streamflow.state.checkpoints.layout import JobLayout
from streamflow.state.checkpoints.manifest import Manifest, StoredFile
from streamflow.state.checkpoints.part_writer import PartWriter

__all__ = ["PartStore"]


def _nothing(point: str) -> None:
    """Does nothing; stands in if no test watches."""


def _at_once() -> None:
    """Returns at once: the coordinator has waited for removals before it began the checkpoint."""


class PartStore:
    """The parts that one worker stores. `blobs` are the coordinator's place, opened with `exclusive=False`: others
    write there at the same time. All methods raise StateError and nothing else.

    >>> from streamflow.disk import LocalDisk
    >>> from streamflow.state.checkpoints.blobs import open_blobs
    >>> from streamflow.state.checkpoints.store import CheckpointStore
    >>> from streamflow.time.clock import SystemClock
    >>> blobs = open_blobs("memory://parts", LocalDisk())
    >>> store, parts = CheckpointStore(blobs, "flights", clock=SystemClock()), PartStore(blobs, "flights")
    >>> incarnation = store.claim()
    >>> checkpoint = store.session(1)
    >>> file = parts.session(1, checkpoint.generation, link=checkpoint.link).put([b"state"], "state")
    >>> parts.settle()
    >>> checkpoint.adopt([file])
    >>> published = checkpoint.publish(Manifest(number=1, files=(file,)))
    >>> parts.published(1)
    >>> store.read(published.files[0])
    b'state'
    """

    def __init__(
        self,
        blobs: Blobs,
        job: str,
        *,
        reach: Callable[[str], None] = _nothing,
        each: Each = one_by_one,
    ) -> None:
        self.blobs = blobs
        self._layout = JobLayout(job)
        self._reach = reach
        self._each = each
        self._guard = threading.Lock()
        self._sessions: dict[int, PartWriter] = {}
        self._known: dict[Identity, StoredFile] = {}
        self._frames = FrameIdentities()
        self._unsynced: tuple[int, UnsyncedError] | None = None
        """The generation in which the disk did not confirm written content, and its error."""

    def session(self, number: int, generation: int, *, link: bool) -> PartWriter:
        """Begins to write a part of checkpoint `number`, as the coordinator's writer says. Does not block."""
        writer = PartWriter(
            self.blobs,
            self._layout.generation(generation),
            number,
            generation,
            link=link,
            known=lambda: self._known,
            frames=self._frames,
            ready=_at_once,
            reach=self._reach,
        )
        with self._guard:
            self._sessions[number] = writer
        return writer

    def settle(self) -> None:
        """Waits until everything stored so far survives a crash: before a part is acknowledged. Raises UnsyncedError,
        from then on at each call until a session in another generation has begun: the second answer of a disk may be
        yes although the data are gone."""
        with self._guard:
            newest = max((each.generation for each in self._sessions.values()), default=0)
            if self._unsynced is not None and self._unsynced[0] == newest:
                raise self._unsynced[1]
        try:
            self.blobs.settle()
        except UnsyncedError as error:
            with self._guard:
                self._unsynced = (newest, error)
            raise

    def published(self, number: int) -> None:
        """Notes that checkpoint `number` was published: what this worker stored for it need not be stored again in its
        generation."""
        with self._guard:
            writer = self._sessions.get(number)
            if writer is not None:
                self._known = writer.identities
            self._sessions = {each: kept for each, kept in self._sessions.items() if each > number}

    def bring(self, manifest: Manifest, folder: Path | None, wanted: Container[str]) -> Content:
        """The `wanted` files of a checkpoint on this machine, by their paths there, like `CheckpointReader.bring`; no
        others are read. Immutable ones are known afterwards, and not stored again in their generation."""
        content = Content(manifest, self.blobs, self._layout.content, folder, wanted).fetched(self._each)
        with self._guard:
            self._known = {**self._known, **identities_of(content)}
        return content
