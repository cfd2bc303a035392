"""Taking checkpoints: the subtasks' snapshots are stored, and published as one once all are there.

The order makes it safe (RELIABILITY: a manifest is published last, in one atomic step; output becomes visible only
after that). An epoch whose checkpoint cannot be stored is given up: processing goes on, its output is committed with
a later one. A number of failures in a row fails the job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from streamflow.core.serde import pack
from streamflow.errors import StateError
from streamflow.observe.logs import reason, told
from streamflow.observe.registry import Counts
from streamflow.runtime.checkpoints.sealed_files import SealedFiles
from streamflow.runtime.checkpoints.snapshots import JOB, SubtaskPart, SubtaskSnapshot
from streamflow.runtime.control.epochs import Complete
from streamflow.runtime.ports import Ports
from streamflow.runtime.waiting import all_of
from streamflow.state.checkpoints.manifest import Manifest, OperatorEntry, StoredFile
from streamflow.state.checkpoints.store import CheckpointStore, CheckpointWriter, FencedError

__all__ = ["CheckpointMetrics", "Checkpoints", "Described"]

_COUNTED: Final = 64
_LOG: Final = logging.getLogger("streamflow.checkpoints")


@dataclass(frozen=True, slots=True)
class Described:
    """A manifest's facts about an operator beside its files: they have to fit when the state is restored."""

    id: str
    kind: str
    parallelism: int
    signature: Mapping[str, Any] | None


@dataclass(slots=True)
class CheckpointMetrics:
    """Figures of the last checkpoint: seconds, bytes; `taken_at` on the monotonic clock."""

    number: int | None = None
    taken_at: float = 0.0
    duration: float = 0.0
    nbytes: int = 0
    taken: int = 0
    failed: int = 0
    failed_in_a_row: int = 0
    counts: dict[int, Counts] = field(default_factory=dict[int, Counts])
    """The records counted at each of the last checkpoints."""
    not_removed: int = 0
    """The number of times that old checkpoints could not be removed."""


class Checkpoints:
    """The checkpoints of one run of a job, after `store` has been claimed for it."""

    def __init__(
        self,
        store: CheckpointStore,
        ports: Ports,
        *,
        mode: str,
        max_parallelism: int,
        operators: Sequence[Described],
        parent: int | None,
        tolerated: int,
        metrics: CheckpointMetrics,
        line: str,
    ) -> None:
        self.store = store
        self.sinks: Mapping[str, Sequence[str]] = {}
        """The facts about each sink that are needed to commit its output."""
        self.notes: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
        """The committers' notes, by sink."""
        self._line = line
        self.metrics = metrics
        self._ports = ports
        self._mode = mode
        self._max_parallelism = max_parallelism
        self._operators = list(operators)
        self._parent = parent
        self._tolerated = tolerated
        self._writer: CheckpointWriter | None = None
        self._sources: Mapping[str, Any] = {}
        self._began = 0.0

    def begin(self, epoch: int, sources: Mapping[str, Any]) -> None:
        """Begins an epoch. `sources` is the part of each source's state that no subtask has, at this very moment."""
        self._writer = self.store.session(epoch)
        self._sources = sources
        self._began = self._ports.clock.monotonic()

    async def ready(self) -> tuple[int, bool]:
        """Waits until workers in other processes may store their parts of the epoch that has begun; returns its
        generation, and whether immutable files may be links."""
        assert self._writer is not None
        writer = self._writer
        await self._ports.uploads(writer.wait)
        return writer.generation, writer.link

    def adopt(self, part: SubtaskPart) -> None:
        """Takes in a part of the epoch in flight that a worker in another process has stored. Raises StateError if it
        is in another generation."""
        assert self._writer is not None
        self._writer.adopt(file for entry in part.entries.values() for file in entry.files)

    async def keep(self, epoch: int, snapshot: SubtaskSnapshot) -> SubtaskPart:
        """Stores a subtask's part of an epoch; raises StateError or OSError if that is impossible."""
        assert self._writer is not None
        assert self._writer.number == epoch
        part = await snapshot.store(self._writer, self._ports.uploads)
        self._ports.reach("subtask.stored")
        return part

    async def publish(self, complete: Complete[SubtaskPart]) -> bool:
        """Publishes the epoch's checkpoint if all of it is there; returns whether it was published.

        Raises StateError for the last failure that is not tolerated any more, and if the job cannot end without a
        checkpoint.
        """
        if self._writer is None or complete.final:
            # The final epoch begins when the last subtask has ended: nothing was stored before.
            self.begin(complete.epoch, {})
        assert self._writer is not None
        writer, self._writer = self._writer, None
        self._ports.reach("checkpoint.complete")
        failure: Exception | None = complete.failures[0] if complete.failures else None
        if failure is None:
            try:
                manifest = await self._stored(writer, complete)
            except FencedError:
                # Another process runs the job by now: this one has no say any more.
                raise
            except (StateError, OSError) as error:
                failure = error
            else:
                self._succeeded(manifest)
                return True
        await self._ports.uploads(writer.abandon, complete.failures)
        self._failed(complete, failure)
        return False

    def counted(self, epoch: int, counts: Counts) -> None:
        """Notes the records counted when the epoch ended."""
        self.metrics.counts[epoch] = counts
        self.metrics.counts.pop(epoch - _COUNTED, None)

    async def retain(self) -> None:
        """Removes checkpoints that are not to be kept; a failure only costs space."""
        try:
            await self._ports.uploads(self.store.retain)
        except (StateError, OSError) as error:
            self.metrics.not_removed += 1
            _LOG.warning("old checkpoints were not removed", extra=told(error=reason(error)))

    async def _stored(self, writer: CheckpointWriter, complete: Complete[SubtaskPart]) -> Manifest:
        """Stores the epoch's output, as many files at a time as there are threads, and then the manifest."""
        sealed: SealedFiles = await self._ports.uploads(SealedFiles.of, complete.sealed)
        files: list[StoredFile] = await all_of(
            self._ports.uploads(writer.put, [data], name) for name, data in sealed.files
        )
        manifest: Manifest = await self._ports.uploads(self._publish, writer, complete, sealed.listed, files)
        return manifest

    def _publish(
        self,
        writer: CheckpointWriter,
        complete: Complete[SubtaskPart],
        listed: list[list[Any]] | None,
        sealed: Sequence[StoredFile],
    ) -> Manifest:
        state: dict[str, Any] = {
            "sources": dict(self._sources),
            "sinks": {id: list(self.sinks[id]) for id in dict(complete.sealed) if id in self.sinks},
            "notes": self.notes(),
            "line": self._line,
        }
        if listed is not None:
            state["sealed"] = listed
        files = (writer.put([pack(state, bounded=False)], JOB), *sealed)
        manifest = Manifest(
            number=complete.epoch,
            parent=self._parent,
            mode=self._mode,
            max_parallelism=self._max_parallelism,
            finished=complete.final,
            operators=tuple(self._entries(complete.parts)),
            files=files,
        )
        return writer.publish(manifest)

    def _entries(self, parts: Mapping[str, SubtaskPart]) -> list[OperatorEntry]:
        entries: list[OperatorEntry] = []
        for described in self._operators:
            subtasks = sorted(
                (part.entries[described.id] for part in parts.values() if described.id in part.entries),
                key=lambda entry: entry.subtask,
            )
            if described.signature is not None or subtasks:
                signature = None if described.signature is None else dict(described.signature)
                entries.append(
                    OperatorEntry(
                        id=described.id,
                        kind=described.kind,
                        parallelism=described.parallelism,
                        signature=signature,
                        subtasks=tuple(subtasks),
                    )
                )
        return entries

    def _succeeded(self, manifest: Manifest) -> None:
        self._parent = manifest.number
        metrics, clock = self.metrics, self._ports.clock
        metrics.number = manifest.number
        metrics.taken_at = clock.monotonic()
        metrics.duration = clock.monotonic() - self._began
        metrics.nbytes = manifest.size
        metrics.taken += 1
        metrics.failed_in_a_row = 0
        facts = told(number=metrics.number, seconds=round(metrics.duration, 3), bytes=metrics.nbytes)
        _LOG.info("checkpoint published", extra=facts)

    def _failed(self, complete: Complete[SubtaskPart], failure: Exception) -> None:
        self.metrics.failed += 1
        self.metrics.failed_in_a_row += 1
        in_a_row = self.metrics.failed_in_a_row
        _LOG.warning(
            "checkpoint failed", extra=told(number=complete.epoch, in_a_row=in_a_row, error=reason(failure))
        )
        if complete.final or self.metrics.failed_in_a_row >= self._tolerated:
            last = (
                "at its beginning, since there is no other yet,"
                if self._parent is None
                else f"from checkpoint {self._parent}"
            )
            raise StateError(
                f"checkpoint {complete.epoch} could not be stored ({self.metrics.failed_in_a_row} in a row): {failure}",
                hint=f"the job continues {last} when it is started again: remove the cause first",
            ) from failure
