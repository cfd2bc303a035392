"""The writing half of `FileSink`: files grow in a hidden folder beside the output and are sealed at the barrier.

The staging folder lies on the target's file system, so that publishing a file only renames it. Sealed output outlives
a crash: content and names are synced before it is returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from streamflow.core.batch import RowBatch
from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.operators.connectors.files.failures import writing
from streamflow.operators.connectors.files.formats.encoding import SUFFIXES, append, empty_file
from streamflow.operators.connectors.files.partitions import partitioned
from streamflow.operators.connectors.files.publishing.durable_names import make_durable
from streamflow.operators.connectors.files.publishing.ownership import Layout, Owner, PartName
from streamflow.operators.contract.sink import Committable, SinkContext
from streamflow.operators.stateless.rows import fitting_frame

__all__ = ["FolderWriter"]

_HELD_BYTES: Final = 4 << 20
"""Bytes held in memory before they are written. Tables are written whole, so this is about the size of a file; more
would show in the memory of a whole job."""
_TEXT_BYTES: Final = 4 << 20


@dataclass(slots=True)
class _OpenFile:
    """A staged file of one partition that still grows, and its rows in memory."""

    rows_written: int = 0
    path: Path | None = None
    held: list[AnyBatch] = field(default_factory=list[AnyBatch])
    held_rows: int = 0
    held_bytes: int = 0


class FolderWriter:
    """The writer of one subtask's files. All I/O runs on the I/O threads, one call at a time."""

    def __init__(self, layout: Layout, schema: Schema | None, ctx: SinkContext) -> None:
        self._layout = layout
        self._schema = schema
        self._ctx = ctx
        self._token = ctx.random.token()
        self._owner = Owner.of(layout.hidden, ctx.job, ctx.operator_id)
        self._staging = self._owner.staging(ctx.subtask, self._token, lasting=ctx.checkpointed)
        self._open: dict[str, _OpenFile] = {}
        self._sealed: list[tuple[Path, str]] = []
        """(staged file, partition folder) of this epoch."""
        self._written = 0
        self._first = True
        self._begins = ctx.subtask == 0 and ctx.restored is None
        """Whether the run's output begins with this writer's: a restored run continues the existing output."""
        replaces = layout.mode == "overwrite" and self._begins
        self._replaces = self._old_parts() if replaces else []
        self._forgets = self._owner.other_notes(ctx.disk) if replaces else []

    async def write(self, batch: AnyBatch) -> None:
        if len(batch):
            await self._ctx.run_blocking(self._write, batch)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        sealed: Sequence[Committable] = await self._ctx.run_blocking(self._seal, epoch)
        self._first = False
        return sealed

    async def close(self) -> None:
        await self._ctx.run_blocking(self._discard)

    def _write(self, batch: AnyBatch) -> None:
        if self._schema is not None:
            batch = fitting_frame(batch, self._schema)
        if isinstance(batch, FrameBatch):
            frame = batch.frame.drop(EVENT_TIME) if batch.timed else batch.frame
            for folder, part in partitioned(frame, self._layout.partition_by):
                self._take(folder, FrameBatch(part))
        else:
            self._take("", RowBatch(batch.values))
        most = _HELD_BYTES if self._layout.format in ("parquet", "arrow") else _TEXT_BYTES
        while sum(file.held_bytes for file in self._open.values()) > most:
            largest = max(self._open, key=lambda folder: self._open[folder].held_bytes)
            self._flush(largest)

    def _take(self, folder: str, batch: AnyBatch) -> None:
        roll = self._layout.roll
        while len(batch):
            file = self._open.setdefault(folder, _OpenFile())
            room = len(batch) if roll is None else roll - file.rows_written - file.held_rows
            now, batch = batch.part(0, room), batch.part(room, len(batch))
            file.held.append(now)
            file.held_rows += len(now)
            file.held_bytes += now.nbytes
            if roll is not None and file.rows_written + file.held_rows >= roll:
                self._finish(folder)

    def _flush(self, folder: str) -> None:
        """Writes the rows in memory. A table takes no more rows after that."""
        file = self._open[folder]
        if file.held:
            if file.path is None:
                file.path = self._new_file()
            for batch in _joined(file.held):
                append(self._ctx.disk, file.path, self._layout.format, batch, self._layout.separator)
            file.rows_written += file.held_rows
            file.held, file.held_rows, file.held_bytes = [], 0, 0
        if self._layout.format in ("parquet", "arrow"):
            self._seal_file(folder)

    def _finish(self, folder: str) -> None:
        self._flush(folder)
        if folder in self._open:
            self._seal_file(folder)

    def _seal_file(self, folder: str) -> None:
        file = self._open.pop(folder)
        if file.path is not None:
            self._sync(file.path)
            self._sealed.append((file.path, folder))

    def _new_file(self) -> Path:
        if not self._written:
            with writing(str(self._staging)):
                make_durable(self._ctx.disk, self._staging, private=True)
        self._written += 1
        return self._staging / f"{self._written:06}{SUFFIXES[self._layout.format]}"

    def _seal(self, epoch: int) -> list[Committable]:
        for folder in list(self._open):
            self._finish(folder)
        if self._lacks_file():
            # One file has to exist even if nothing was written.
            path = self._new_file()
            empty_file(self._ctx.disk, path, self._layout.format, self._schema, self._layout.separator)
            self._sync(path)
            self._sealed.append((path, ""))
        if self._sealed:
            with writing(str(self._staging)):
                self._ctx.disk.sync_folder(self._staging)
        sealed, self._sealed = self._sealed, []
        place: dict[str, Any] = {"target": self._layout.given, "hidden": str(self._layout.hidden)}
        committables: list[Committable] = [
            {**place, "staged": self._staged(path), "final": self._final_name(folder, epoch, number)}
            for number, (path, folder) in enumerate(sealed)
        ]
        if self._first and self._begins:
            beginning: dict[str, Any] = {"begins": self._token, "adds": self._layout.mode == "append"}
            committables.append({**place, **beginning, "replaces": self._replaces, "forgets": self._forgets})
        return committables

    def _lacks_file(self) -> bool:
        if not self._layout.single or not self._first or self._ctx.subtask != 0 or self._sealed:
            return False
        return self._begins or not self._ctx.disk.exists(self._layout.target)

    def _staged(self, path: Path) -> str:
        return path.relative_to(self._layout.hidden).as_posix()

    def _final_name(self, folder: str, epoch: int, number: int) -> str:
        # Other sinks, other runs and other jobs that write into this folder count as this one does.
        name = PartName(self._ctx.subtask, epoch, number, self._token, SUFFIXES[self._layout.format])
        return f"{folder}/{name}" if folder else str(name)

    def _old_parts(self) -> list[str]:
        """The part files that the first commit of an overwriting run removes: those in the folder itself and in
        partition folders.

        A folder of any other name is another output.
        """
        if self._layout.single:
            return []
        base = self._layout.base
        found = [path.relative_to(base) for path in self._ctx.disk.files_below(base)]
        return [
            path.as_posix()
            for path in found
            if PartName.parse(path.name) is not None and all("=" in part for part in path.parts[:-1])
        ]

    def _sync(self, path: Path) -> None:
        with writing(str(path)):
            self._ctx.disk.sync(path)

    def _discard(self) -> None:
        """Removes unsealed files, and the staging folder if it is empty."""
        kept = [path for path, _ in self._sealed] + [file.path for file in self._open.values() if file.path]
        self._open, self._sealed = {}, []
        with writing(str(self._staging)):
            for path in kept:
                self._ctx.disk.remove(path)
            for folder in (self._staging, self._layout.hidden):
                self._ctx.disk.remove_folder(folder)


def _joined(batches: Sequence[AnyBatch]) -> Sequence[AnyBatch]:
    """Frames joined into one, since a table is written at once."""
    frames = [batch.frame for batch in batches if isinstance(batch, FrameBatch)]
    return [FrameBatch(concatenated(frames))] if frames else batches
