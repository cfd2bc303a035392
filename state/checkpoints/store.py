"""The checkpoints of one job: writing and publishing them, setting them aside, removing old ones.

A generation shares no stored bytes with the one before: files of one generation are hard links to one another and to
the live database, so that damage to one would end all checkpoints that have it. Content is removed only if no
manifest names it and no checkpoint is being written; a manifest goes before its content.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, Self

from msgspec.structs import replace

from streamflow.distribution import __version__
from streamflow.errors import DamagedError, StateError
from streamflow.state.checkpoints.blobs import Blobs
from streamflow.state.checkpoints.claims import Claims, FencedError
from streamflow.state.checkpoints.collection import Collection, begins_generation, retained
from streamflow.state.checkpoints.content import Content, Each, identities_of, one_by_one
from streamflow.state.checkpoints.file_identities import Identity
from streamflow.state.checkpoints.frame_identities import FrameIdentities
from streamflow.state.checkpoints.layout import name_of
from streamflow.state.checkpoints.manifest import (
    FORMAT,
    Manifest,
    SignatureError,
    StoredFile,
    encode_manifest,
)
from streamflow.state.checkpoints.reader import CheckpointReader, Problem, Skipped, Summary, jobs_in
from streamflow.state.checkpoints.writer import CheckpointWriter
from streamflow.time.clock import Clock

__all__ = ["CheckpointStore", "CheckpointWriter", "FencedError", "Problem", "Skipped", "jobs_in"]

_GRACE: Final = 3_600


def _nothing(point: str) -> None:
    """Does nothing; stands in if no test watches."""


class CheckpointStore(CheckpointReader):
    """The checkpoints of `job` in `blobs`. To write, it has to `claim` first; reading needs nothing.

    `keep` checkpoints are retained; every `physical_every`-th begins a generation. With a `key`, manifests are
    signed and unsigned ones refused. `reach` is called with the name of each step at which a crash would matter.
    Without a lock (object stores, or by choice) content that no manifest names is removed only after `grace`
    seconds. All methods raise StateError and nothing else.

    >>> from streamflow.disk import LocalDisk
    >>> from streamflow.state.checkpoints.blobs import open_blobs
    >>> from streamflow.time.clock import SystemClock
    >>> with CheckpointStore(open_blobs("memory://flights", LocalDisk()), "flights", clock=SystemClock()) as store:
    ...     incarnation = store.claim()
    ...     writer = store.session(store.next_number())
    ...     file = writer.put([b"state"], "job.msgpack")
    ...     published = writer.publish(Manifest(number=1, files=(file,)))
    ...     store.numbers(), store.read(published.files[0]), store.verify(1)
    ([1], b'state', [])
    """

    def __init__(
        self,
        blobs: Blobs,
        job: str,
        *,
        clock: Clock,
        reach: Callable[[str], None] = _nothing,
        keep: int = 3,
        physical_every: int = 10,
        key: bytes | None = None,
        each: Each = one_by_one,
        grace: float = _GRACE,
    ) -> None:
        super().__init__(blobs, job, key=key, each=each)
        if keep < 1 or physical_every < 1:
            raise StateError("at least one checkpoint is kept, and every one or more begins a generation")
        self._claims = Claims(blobs, self._layout, clock)
        self._clock = clock
        self._reach = reach
        self._keep = keep
        self._physical_every = physical_every
        self._collection = Collection(blobs, self._layout, int(grace * 1_000_000), reach)
        self._guard = threading.Lock()  # of what follows; never held while anything blocks
        self._sessions: set[CheckpointWriter] = set()
        self._published: set[int] = set()
        self._generation: int | None = None
        self._renew = False
        self._marked = False
        self._known: dict[Identity, StoredFile] = {}
        self._frames = FrameIdentities()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def incarnation(self) -> int | None:
        """This process's claim; None before `claim` and after `close`."""
        return self._claims.incarnation

    def claim(self) -> int:
        """Takes the job over and returns the new incarnation. In a local folder a job that a live process runs is
        refused; in an object store that process can publish nothing more. Removes unfinished content of dead runs."""
        if self.incarnation is not None:
            return self.incarnation
        incarnation = self._claims.take()
        with suppress(StateError):  # what is left can be removed another time
            for folder in (self._layout.manifests, self._layout.claims, self._layout.quarantine):
                self._collection.sweep(folder, self._clock.now())
            for entry in self.blobs.entries(self._layout.probes):
                self.blobs.remove(entry.key)
            self._collect()
        try:
            self._generation = self._newest_generation()
        except StateError:
            self.close()
            raise
        return incarnation

    def check(self) -> None:
        """Raises FencedError if another process has taken the job over."""
        self._claims.check()

    def close(self) -> None:
        """Lets another process run the job. May be called twice."""
        self._claims.release()

    def next_number(self) -> int:
        """A number that no checkpoint published here has had."""
        aside = [name_of(entry.key)[:10] for entry in self.blobs.entries(self._layout.quarantine)]
        numbers = [*self.numbers(), *self._published, *(int(name) for name in aside if name.isdigit())]
        return max(self._claims.highest_seen(), *numbers, 0) + 1

    def session(self, number: int, *, apart: bool = False) -> CheckpointWriter:
        """Begins to write checkpoint `number`; `apart`: in a generation of its own. Does not block."""
        if self.incarnation is None:
            raise StateError(f"job {self.job} was not claimed, so that no checkpoint can be written")
        with self._guard:
            earlier = self._generation
            new = apart or self._renew or begins_generation(number, earlier, self._physical_every)
            generation = number if new or earlier is None else earlier
            first = earlier is None and not apart
            writer = CheckpointWriter(
                self,
                self._layout.generation(generation),
                number,
                generation,
                link=first or not new,
                known=lambda: self._known,
                frames=self._frames,
                collection=self._collection,
                reach=self._reach,
            )
            self._sessions.add(writer)
            self._collection.begin()
        return writer

    def bring(self, manifest: Manifest, folder: Path | None, wanted: Container[str] | None = None) -> Content:
        """The content of a checkpoint, like the reader's; immutable files are known afterwards, and not stored again
        in their generation."""
        content = super().bring(manifest, folder, wanted)
        with self._guard:
            self._known = {**self._known, **identities_of(content)}
        return content

    def quarantine(self, number: int, why: str) -> None:
        """Sets a checkpoint aside: its manifest is kept, but is no checkpoint any more."""
        there = {entry.key for entry in self.blobs.entries(self._layout.quarantine)}
        place = f"{self._layout.quarantine}/{number:010}"
        free = next(n for n in range(1, len(there) + 2) if f"{place}.{n}" not in there)
        self.blobs.move(self._layout.manifest(number), f"{place}.{free}")
        self._summaries.pop(number, None)
        self.blobs.create(f"{place}.{free}.why", why.encode(), _nothing)
        self.blobs.settle()

    def retain(self) -> list[int]:
        """Removes checkpoints that are no longer kept, then content that no manifest names; savepoints stay. Returns
        the removed numbers."""
        with self._claims.exclusively():
            summaries: dict[int, Summary] = {}
            numbers = self.numbers()
            for number in numbers:
                try:
                    summaries[number] = self._summary(number)
                except SignatureError:
                    raise  # with the wrong key all of them would be set aside
                except DamagedError as error:
                    self.quarantine(number, str(error))
            found = {
                number: each.generation for number, each in summaries.items() if each.kind == "checkpoint"
            }
            removed = sorted(set(found) - retained(found, self._keep))
            if removed or len(summaries) < len(numbers):
                self._remove(removed)
        return removed

    def remove(self, number: int) -> None:
        """Removes one checkpoint or savepoint."""
        with self._claims.exclusively():
            numbers = self.numbers()
            if number not in numbers:
                raise StateError(f"{self.job} in {self.place} has no checkpoint {number}")
            if numbers == [number]:
                self.blobs.remove(self._layout.published)
                self._marked = False
            self._remove([number])

    def copy(
        self,
        manifest: Manifest,
        target: CheckpointStore,
        kind: Literal["checkpoint", "savepoint"] = "savepoint",
        changed: Mapping[str, bytes | None] | None = None,
    ) -> Manifest:
        """Copies a checkpoint with all its files to another store, verifying it; returns the manifest there.

        `changed` gives files of the job as a whole other content, or None to leave them out. The target is claimed
        meanwhile if it is not. Raises StateError if it has a checkpoint of this number.
        """
        changed = changed or {}
        claimed = target.incarnation is not None
        target.claim()
        try:
            if manifest.number in target.numbers():
                raise StateError(
                    f"{target.place} has a checkpoint {manifest.number} of {target.job} already",
                    hint="give another place",
                )
            writer = target.session(manifest.number, apart=True)

            def stored(file: StoredFile) -> StoredFile:
                return replace(writer.put([self.read(file)], file.name), immutable=file.immutable)

            try:
                contents = ((name, data) for name, data in changed.items() if data is not None)
                files = tuple(writer.put([data], name) for name, data in contents)
                rest = tuple(file for file in manifest.files if file.name not in changed)
                whole = replace(manifest, files=rest).with_files(stored)
                return writer.publish(replace(whole, files=(*files, *whole.files), kind=kind, parent=None))
            finally:
                writer.abandon()
        finally:
            if not claimed:
                target.close()

    # For the writer.

    def publish(self, writer: CheckpointWriter, manifest: Manifest) -> Manifest:
        """Takes the last step of `writer`, which calls this."""
        incarnation = self.incarnation
        if writer not in self._sessions or incarnation is None or manifest.number != writer.number:
            raise StateError(f"checkpoint {writer.number} is over already")
        manifest = self._completed(manifest, incarnation, writer.generation)
        data = encode_manifest(manifest, self._key)
        self._claims.check()
        self.blobs.settle()
        self._reach("manifest.before")
        if not self._create(manifest, data):
            raise StateError(f"{self.job} in {self.place} has a checkpoint {manifest.number} already")
        self._reach("manifest.published")
        if not self.blobs.exclusive:
            # A process that took over in between has seen this manifest and continues from it, or will set it aside.
            self._claims.check()
        self._summaries[manifest.number] = self._summed(manifest)
        with self._guard:
            self._published.add(manifest.number)
            if manifest.kind == "checkpoint":
                self._generation, self._known, self._renew = writer.generation, writer.identities, False
        with suppress(StateError):  # it is published whatever becomes of this
            self._supersede(manifest)
            if not self._marked:
                self.blobs.create(self._layout.published, b"", _nothing)
                self._marked = True
        self.end(writer)
        return manifest

    def end(self, writer: CheckpointWriter, *, unsynced: bool = False) -> None:
        """Ends `writer`; `unsynced`: the disk did not confirm written content, so that the next writer begins again."""
        with self._guard:
            if writer not in self._sessions:
                return
            self._sessions.discard(writer)
            self._renew = self._renew or unsynced
        if self._collection.end() or writer.number not in self._published:
            with suppress(StateError):
                self._collect()

    # Inside.

    def _found(self, manifest: Manifest | None, skipped: list[Skipped]) -> None:
        """Finishes a search for an intact checkpoint: with the claim, quarantines those passed over, and checks the
        checkpoints that existed when the job was taken over."""
        if manifest is None and self._claims.had_checkpoints:
            raise self._gone()
        if self.incarnation is not None:
            for each in skipped:
                self.quarantine(each.number, each.why)
            self._generation = manifest.generation if manifest else None

    def _completed(self, manifest: Manifest, incarnation: int, generation: int) -> Manifest:
        parent = manifest.parent
        if parent is None and manifest.kind == "checkpoint":
            parent = max(self._published, default=None)
        return replace(
            manifest,
            format=FORMAT,
            streamflow=__version__,
            job=self.job,
            incarnation=incarnation,
            generation=generation,
            created=self._clock.now(),
            parent=parent,
        )

    def _create(self, manifest: Manifest, data: bytes) -> bool:
        key = self._layout.manifest(manifest.number)
        if self.blobs.create(key, data, lambda step: self._reach(f"manifest.{step}")):
            return True
        if self.blobs.exclusive or manifest.number <= self._claims.seen or manifest.kind == "savepoint":
            return False
        if self.manifest(manifest.number).incarnation >= manifest.incarnation:
            return False
        self.quarantine(manifest.number, f"published after incarnation {manifest.incarnation} had taken over")
        return self.blobs.create(key, data, lambda step: self._reach(f"manifest.{step}"))

    def _supersede(self, manifest: Manifest) -> None:
        """Sets aside checkpoints that are not on the way from the parent to this one: going back to them would be
        wrong."""
        if manifest.kind == "savepoint":
            return
        numbers = self.numbers()
        parent = manifest.parent if manifest.parent is not None and manifest.parent in numbers else -1
        origin = "nothing" if manifest.parent is None else f"checkpoint {manifest.parent}"
        for number in numbers:
            if number in self._published or number <= parent:
                continue
            with suppress(StateError):  # one that cannot be read is no one to go back to
                if self._summary(number).kind == "checkpoint":
                    self.quarantine(number, f"the job went on from {origin} to checkpoint {manifest.number}")

    def _remove(self, numbers: list[int]) -> None:
        for number in numbers:
            self.blobs.remove(self._layout.manifest(number))
            self._summaries.pop(number, None)
            self._reach("retain.manifest_removed")
        self._collect()

    def _collect(self) -> None:
        self.blobs.settle()  # or a manifest that was removed would come back without its content

        def named() -> set[str]:
            return {key for number in self.numbers() for key in self._summary(number).keys}

        removed = self._collection.remove(named, self._clock.now())
        if removed:
            with self._guard:
                known = self._known.items()
                self._known = {
                    each: file for each, file in known if self._layout.content(file) not in removed
                }

    def _newest_generation(self) -> int | None:
        for number in reversed(self.numbers()):
            with suppress(StateError):
                return self._summary(number).generation
        return None
