"""`FileSink`: files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from os.path import realpath
from pathlib import Path, PurePath
from typing import Literal

from streamflow.arguments import names, whole_number
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.disk import Disk
from streamflow.errors import JobDefinitionError, SinkError
from streamflow.operators.connectors.files.formats.encoding import SUFFIXES, check_continues, check_format
from streamflow.operators.connectors.files.formats.formats import (
    FileFormat,
    by_suffix,
    checked_format,
    separator_of,
)
from streamflow.operators.connectors.files.listing import local_path
from streamflow.operators.connectors.files.partitions import check_partition
from streamflow.operators.connectors.files.publishing.hidden_folder import hidden_folder
from streamflow.operators.connectors.files.publishing.ownership import Layout
from streamflow.operators.connectors.files.publishing.publication import FolderCommitter
from streamflow.operators.connectors.files.publishing.single_file import FileCommitter
from streamflow.operators.connectors.files.publishing.staging import FolderWriter
from streamflow.operators.contract.sink import Committer, Delivery, Sink, SinkContext, SinkWriter

__all__ = ["FileSink"]


@dataclass(frozen=True, slots=True)
class FileSink(Sink):
    """Writes into a folder, as `part-<subtask>-<epoch>-<n>-<run>.<suffix>`, or into one file if the path has a suffix
    (`out.parquet`); a path that ends with `/` is always a folder. The folder above has to exist. An epoch's output
    appears when the epoch is complete, by renaming, and is invisible before. All other files lie in a hidden folder
    beside the output folder (`.out.streamflow` for `out/`), or in `.streamflow` inside of it if there can be none
    beside it, as with a mounted folder; move it along if you move the output.

    `format`: "parquet" (default for folders), "ndjson", "csv", "arrow". `partition_by`: columns that become folder
    names (`origin=JFK/`) instead of content, as text; all types but Binary and nested ones. `roll`: at most so many
    rows a file. `mode`: "error" refuses a folder or file that already holds something, when the job starts; "append"
    adds to it; "overwrite" replaces the part files, or the file, when the first epoch commits, and not if the job
    fails before. A job that continues from a checkpoint continues its own output in each mode: output published after
    that checkpoint is taken back first. From a single file no output can be taken back: that is a SinkError, unless
    duplicates are allowed.

    A folder that has disappeared since the job published something there is a SinkError; once it is back the job
    continues. A savepoint stands by itself: the output from before it may have been moved.

    Several sinks may write rows of the same columns and format into one folder, from one job or several. A file, or a
    folder to overwrite, is for one sink of one run at a time.

    A single file is written again at each epoch: for unbounded streams, give a folder. Text carries times as
    `2013-01-01T05:17:00Z`, and durations as integers in their unit. ndjson carries NaN and infinity as null, Binary
    not at all. A stream of Python objects can be written as ndjson. `.tsv` is CSV with tabs.

    Raises JobDefinitionError for arguments that cannot work (when the job is built), SinkError if the disk refuses,
    RecordError for a partition value that no folder can be named after.

    >>> FileSink("late/", format="ndjson").describe()
    'FileSink(late/, ndjson)'
    """

    path: str | Path
    format: FileFormat | None = None
    partition_by: str | Sequence[str] = ()
    roll: int | None = None
    mode: Literal["error", "append", "overwrite"] = "error"
    delivery: Delivery = field(default="exactly_once", init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", local_path(self.path))
        by = names(self.partition_by, "partition_by")
        object.__setattr__(self, "partition_by", by)
        checked_format(self.format)
        told, compression = by_suffix(str(self.path))
        if told is None and compression == "none" and PurePath(self.path).suffix and not self._folder:
            raise JobDefinitionError(
                f"FileSink cannot tell whether {self.path!r} is a file or a folder",
                hint=f"a file ends with one of {', '.join(SUFFIXES.values())}, the path of a folder with a slash",
            )
        if compression != "none" or "text" in (self.format, told):
            raise JobDefinitionError(
                f"FileSink cannot write {self.path!r}", hint=f"one of: {', '.join(SUFFIXES)}; uncompressed"
            )
        if self.roll is not None:
            whole_number(self.roll, "roll (the most rows of a file)")
        if self.mode not in ("error", "append", "overwrite"):
            raise JobDefinitionError(
                f"FileSink has no mode {self.mode!r}", hint="one of: error, append, overwrite"
            )
        if self._single and (by or self.roll is not None):
            raise JobDefinitionError(
                f"{self.path!r} is one file",
                hint="give a folder for partition_by= and roll= (a path without suffix)",
            )
        if self._single and told is not None and self.format not in (None, told):
            raise JobDefinitionError(
                f"{self.path!r} is to be written as {self.format}", hint="let the suffix say it"
            )

    @property
    def writes_to(self) -> str:
        return str(self.path)

    def check(self, input_type: StreamType) -> None:
        check_format(self._format, input_type)
        if self.partition_by and not isinstance(input_type.schema, Schema):
            raise JobDefinitionError("partition_by needs columns", hint="this stream holds Python objects")
        if isinstance(input_type.schema, Schema):
            for name in self.partition_by:
                check_partition(name, input_type.schema.need(name))
            twice = [name for name in self.partition_by if list(self.partition_by).count(name) > 1]
            if twice:
                raise JobDefinitionError(f"partition_by names {twice[0]!r} twice", hint="once is enough")
            if self.partition_by and len(set(self.partition_by)) == len(input_type.schema):
                raise JobDefinitionError("partition_by leaves no column to write", hint="name fewer columns")
        problem = self._obstacle()
        if problem is not None:
            raise JobDefinitionError(problem[0], hint=problem[1])

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        problem = self._obstacle()
        if problem is not None:
            raise SinkError(problem[0], hint=problem[1])
        layout = self._layout(ctx.disk)
        # Only now is it known whether existing files may be this job's own.
        if self.mode == "error" and ctx.restored is None and layout.occupied(ctx.disk):
            raise SinkError(
                f"{self.path!r} already holds something",
                hint='choose another path, mode="append" or mode="overwrite"',
            )
        schema = input_type.schema if isinstance(input_type.schema, Schema) else None
        if layout.single and self.mode == "append" and ctx.restored is None:
            check_continues(ctx.disk, layout.target, layout.format, schema, layout.separator)
        return FolderWriter(layout, schema, ctx)

    def committer(self, ctx: SinkContext) -> Committer:
        layout = self._layout(ctx.disk)
        return FileCommitter(layout, ctx) if layout.single else FolderCommitter(layout, ctx)

    def place(self, input_type: StreamType) -> tuple[Hashable, Hashable]:
        columns = tuple(input_type.schema.items()) if isinstance(input_type.schema, Schema) else None
        alone = object() if self._single or self.mode == "overwrite" else None
        return realpath(self.path), (self._format, columns, self.partition_by, alone)

    def describe(self) -> str:
        by = f", by {', '.join(self.partition_by)}" if self.partition_by else ""
        return f"FileSink({self.path}, {self._format}{by})"

    @property
    def _single(self) -> bool:
        return by_suffix(str(self.path))[0] is not None and not self._folder

    @property
    def _folder(self) -> bool:
        """Whether the path surely is a folder, whatever its suffix."""
        return str(self.path).endswith(("/", os.sep)) or Path(self.path).is_dir()

    @property
    def _format(self) -> FileFormat:
        told = by_suffix(str(self.path))[0] if self._single else None
        return self.format or told or "parquet"

    def _layout(self, disk: Disk) -> Layout:
        # By any name of the folder: its hidden neighbour must be on the same file system.
        target = Path(realpath(self.path))
        return Layout(
            given=str(self.path),
            target=target,
            hidden=hidden_folder(disk, target.parent, target.name)
            if self._single
            else hidden_folder(disk, target),
            separator=separator_of(str(self.path)),
            format=self._format,
            single=self._single,
            partition_by=tuple(self.partition_by),
            roll=self.roll,
            mode=self.mode,
        )

    def _obstacle(self) -> tuple[str, str] | None:
        """The reason why the path cannot be written, and a hint; None if it can."""
        target = Path(self.path)
        if not self._single and target.exists() and not target.is_dir():
            return f"{self.path!r} is a file", "give a folder, or a path with a suffix for one file"
        nearest = target.parent if self._single or not target.exists() else target
        if not nearest.exists():
            return f"there is no folder {str(nearest)!r} to write into", "check the path, or make the folder"
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            return f"cannot write below {str(nearest)!r}", "check the path and its permissions"
        return None
