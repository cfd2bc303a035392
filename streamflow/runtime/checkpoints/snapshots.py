"""One subtask's snapshot for a checkpoint: taken in an instant between two elements, stored while the subtask goes
on.

Taking it hands out references (frames are immutable) and makes hard links; encoding, hashing and writing come later,
on the I/O threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from streamflow.core.serde import pack
from streamflow.observe.registry import Counts
from streamflow.operators.contract.operator import OperatorSnapshot
from streamflow.runtime.checkpoints.stored_content import OperatorContent, content_of
from streamflow.runtime.ports import Blocking
from streamflow.runtime.waiting import all_of
from streamflow.state.backends.saved import Saved, SavedFile
from streamflow.state.checkpoints.manifest import StoredFile, SubtaskEntry
from streamflow.state.checkpoints.part_writer import PartWriter
from streamflow.state.checkpoints.tables import encode_table
from streamflow.state.operator_snapshot import Table

__all__ = [
    "BACKEND",
    "JOB",
    "SOURCE",
    "TABLE",
    "VALUES",
    "OperatorShare",
    "SubtaskPart",
    "SubtaskSnapshot",
    "described",
]

VALUES: Final = "values.msgpack"
"""The file of an operator's values, with the names of its tables and key columns."""
SOURCE: Final = "source.msgpack"
"""The file of a source subtask's splits, positions and watermarks."""
JOB: Final = "job.msgpack"
"""The file of everything outside of subtasks: splits not handed out yet, and sealed output."""
TABLE: Final = "table-"
FRAMES: Final = "frames/"
"""The folder of a table's frames that are files of their own."""
BACKEND: Final = "backend/"
_LARGE: Final = 64 << 10
"""Bytes of a frame from which on it may be a file of its own."""


@dataclass(frozen=True, slots=True)
class OperatorShare:
    """One operator's share in one subtask. `groups`: the key groups it owns."""

    operator: str
    groups: range
    snapshot: OperatorSnapshot
    saved: Saved | None = None

    def store(self, writer: PartWriter, subtask: int) -> SubtaskEntry:
        """Writes it, file by file; blocks."""
        files, new = self._begun(writer)
        return self._entry(subtask, [*files, *(store() for store in new)])

    async def upload(self, writer: PartWriter, subtask: int, uploads: Blocking) -> SubtaskEntry:
        """Writes it, as many new files of the backend and frames at a time as `uploads` has threads."""
        files, new = await uploads(self._begun, writer)
        stored = await all_of(uploads(store) for store in new)
        return self._entry(subtask, [*files, *stored])

    def _begun(self, writer: PartWriter) -> tuple[list[StoredFile], list[Callable[[], StoredFile]]]:
        """Writes all but new files of the backend and frames that are new as files of their own; the second part of the
        result writes these; blocks."""
        snapshot, new = self.snapshot, list[Callable[[], StoredFile]]()
        described = {
            "values": dict(snapshot.values),
            "keys": list(snapshot.keys),
            "tables": list(snapshot.tables),
        }
        files = [writer.put([pack(described, bounded=False)], VALUES)]
        for name, table in snapshot.tables.items():
            apart = {place: f"{FRAMES}{name}/{place}" for place in _lasting(writer, table)}
            for place, file_name in apart.items():
                frame = table[place][1]
                known = writer.stored_frame(frame, file_name)
                if known is None:
                    new.append(partial(writer.put_frame, frame, file_name))
                else:
                    files.append(known)
            files.append(writer.put(encode_table(table, apart), TABLE + name))
        for file in () if self.saved is None else self.saved.files():
            if file.path is None:
                files.append(writer.put([file.data or b""], BACKEND + file.name))
            elif file.immutable and (stored := writer.stored(file.path, BACKEND + file.name)) is not None:
                files.append(stored)
            else:
                new.append(partial(_store_file, writer, file))
        return files, new

    def _entry(self, subtask: int, files: Sequence[StoredFile]) -> SubtaskEntry:
        return SubtaskEntry(
            subtask=subtask,
            first_group=self.groups.start,
            last_group=self.groups.stop - 1,
            backend=None if self.saved is None else self.saved.kind,
            files=tuple(files),
        )


def _lasting(writer: PartWriter, table: Table) -> list[int]:
    """The places of the frames that become files of their own: large ones that were there at an earlier checkpoint.
    Others would soon be replaced, and cost a file for nothing."""
    return [
        place
        for place, (_, frame) in enumerate(table)
        if frame.estimated_size() >= _LARGE and writer.lasts(frame)
    ]


def _store_file(writer: PartWriter, file: SavedFile) -> StoredFile:
    assert file.path is not None
    return writer.put_file(file.path, BACKEND + file.name, immutable=file.immutable)


@dataclass(frozen=True, slots=True)
class SubtaskPart:
    """A subtask's stored part of a checkpoint: an entry for each operator that has anything, by its id."""

    entries: Mapping[str, SubtaskEntry]


@dataclass(frozen=True, slots=True)
class SubtaskSnapshot:
    """All shares of one subtask; `source` is the reading position of a source's subtask, by the source's id."""

    subtask: int
    shares: Sequence[OperatorShare] = ()
    source: tuple[str, Mapping[str, Any]] | None = field(default=None)
    counts: Counts = field(default_factory=dict[Any, Any])
    """The numbers of records that its operators had counted; not stored."""

    async def store(self, writer: PartWriter, uploads: Blocking) -> SubtaskPart:
        """Write all of it and release what was only kept for that."""
        try:
            entries = {
                share.operator: await share.upload(writer, self.subtask, uploads) for share in self.shares
            }
            if self.source is not None:
                id, state = self.source
                file = await uploads(writer.put, [pack(dict(state), bounded=False)], SOURCE)
                entries[id] = SubtaskEntry(
                    subtask=self.subtask, first_group=0, last_group=0, backend=None, files=(file,)
                )
            return SubtaskPart(entries)
        finally:
            await uploads(self.release)

    def release(self) -> None:
        """Releases everything kept only to be stored."""
        for share in self.shares:
            if share.saved is not None:
                share.saved.release()


def described(data: bytes) -> tuple[Mapping[str, Any], tuple[str, ...], Sequence[str]]:
    """(values, key columns, names of tables) out of a `values.msgpack`. Raises StateError for any other content."""
    content = content_of(data, OperatorContent, VALUES)
    return content["values"], tuple(content["keys"]), content["tables"]
