"""`FileSource`: files as a source, bounded, or followed as they grow (`watch`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from streamflow.arguments import flag, names
from streamflow.core.schema import OBJECTS, Objects, Schema, StreamSchema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.files.enumerator import FileEnumerator, Told, WatchingEnumerator
from streamflow.operators.connectors.files.formats.csv_format import CsvOptions
from streamflow.operators.connectors.files.formats.formats import FileFormat, by_suffix, checked_format
from streamflow.operators.connectors.files.formats.inference import infer_schema
from streamflow.operators.connectors.files.formats.text import TEXT_COLUMN
from streamflow.operators.connectors.files.formats.wire_types import wire_types
from streamflow.operators.connectors.files.listing import FoundFile, list_files, local_path
from streamflow.operators.connectors.files.opening import FileReading, OpenedWhenRead
from streamflow.operators.contract.source import (
    Enumerator,
    Position,
    Source,
    SourceContext,
    Split,
    SplitReader,
)
from streamflow.time.timestamps import Duration, parse_duration

__all__ = ["FileSource"]


@dataclass(slots=True)
class _Pinned:
    """The schema once it has been found: the same when the job is built and when it runs."""

    schema: StreamSchema | None = None


@dataclass(frozen=True, slots=True)
class FileSource(Source):
    """Reads files: a path, a glob, a folder (with its subfolders), or a list of these.

    `format` follows from the suffix (.ndjson .jsonl .json, .csv .tsv, .parquet, .arrow .ipc .feather, .txt .log
    .text, those of text also with .gz or .zst) unless given. `schema` gives names and types of the columns to read;
    without it they are inferred from the first 1,000 rows and pinned (in CSV, numbers with leading zeros or a plus
    sign are text); `sf.OBJECTS` asks for Python objects (any JSON value, a str for a line of text, a dict otherwise,
    of text alone for CSV). A field missing in a JSON object is null. A job that continues from a checkpoint infers
    again: it is refused if the types differ because the first files have gone. With a schema a folder without any file
    is an input without rows.

    Files are read side by side in event time. `in_order=True` says that they follow one another, so that the
    watermark need not wait for those not yet begun. `watch="1s"` looks every second for new files and for whole lines
    appended to known ones, and never ends; with a schema no file needs to exist when it begins. A file that has
    become shorter or was replaced is read again from its start, recognised by its inode, its first bytes and those
    before the reading position; compressed, Parquet and Arrow files have to appear whole (written elsewhere, then
    renamed). A file under another name is another file: rotated ones belong outside of the glob. A file replaced
    before its found parts were read is a SourceError.

    Folders below the path, or the fixed part of a glob, that are called `name=value`, as `FileSink(partition_by=)`
    makes them, are columns too, except for objects: of the schema's types, or integers, days or times if all values
    are, else text.

    Of two values of one name in a JSON object the last counts. Text columns take numbers as they are written. In CSV of
    one column a blank line is a null. Text is UTF-8, with or without a byte order mark. Values that do not fit their
    column without becoming others are errors, in tables too, by the source's `on_error`.

    CSV: `separator` (a comma, in `.tsv` files a tab), `has_header` (without it the columns are the schema's, in order,
    or `column_1` and so on), `null_values`, `quote` (None: quotes are ordinary characters; large files are then split).

    Raises JobDefinitionError for options that make no sense, SourceError for missing or unreadable files.

    >>> import polars as pl
    >>> FileSource("flights/*.ndjson", schema={"origin": pl.String}).describe()
    'FileSource(flights/*.ndjson)'
    """

    path: str | Path | Sequence[str | Path]
    format: FileFormat | None = None
    schema: Mapping[str, Any] | Objects | None = None
    watch: Duration | None = None
    in_order: bool = False
    separator: str | None = None
    has_header: bool = True
    null_values: Sequence[str] = ()
    quote: str | None = '"'
    _paths: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _pinned: _Pinned = field(default_factory=_Pinned, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = list(self.path) if isinstance(self.path, (list, tuple)) else [self.path]
        if not given:
            raise JobDefinitionError("FileSource got no path", hint='give one, like "flights/*.ndjson"')
        object.__setattr__(self, "path", tuple(given))
        object.__setattr__(self, "_paths", tuple(local_path(path) for path in given))
        checked_format(self.format)
        if self.schema is not None and not isinstance(self.schema, Objects):
            object.__setattr__(self, "schema", Schema(self.schema))
        if self.watch is not None:
            parse_duration(self.watch, what="watch", positive=True)
        object.__setattr__(self, "null_values", names(self.null_values, "null_values"))
        flag(self.in_order, "in_order")
        flag(self.has_header, "has_header")
        self._csv()

    @property
    def bounded(self) -> bool:
        return self.watch is None

    @property
    def input(self) -> Mapping[str, Any]:
        return {"paths": list(self._paths), "watched": self.watch is not None}

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        problems: list[str] = []
        watched, before = self.watch is not None, list(saved.get("paths", self._paths))
        if bool(saved.get("watched", watched)) != watched:
            was, now = ("without watch=", "with it") if watched else ("with watch=", "without it")
            problems.append(f"it read {', '.join(before)} {was} and reads {now}")
        # A watching source finds new files; a bounded one would never read them.
        if before != list(self._paths) and not (watched and set(before) <= set(self._paths)):
            problems.append(f"it read {', '.join(before)} and reads {', '.join(self._paths)}")
        return problems

    def output_type(self) -> StreamType:
        if self._pinned.schema is None:
            self._pinned.schema = self._find_schema()
        return StreamType(self._pinned.schema, timed=False)

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        if self.watch is None:
            return FileEnumerator(self._list, ctx, in_order=self.in_order, csv=self._csv(), told=self._told())
        interval = parse_duration(self.watch) / 1e6
        return WatchingEnumerator(self._list, ctx, interval=interval, csv=self._csv(), told=self._told())

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        schema = self.output_type().schema
        reading = FileReading(schema, self._csv(), cast=self.schema is not None)
        return OpenedWhenRead(lambda: reading.open(split, position, ctx), ctx.run_blocking)

    def describe(self) -> str:
        first, *others = self._paths
        more = f", … ({len(self._paths)} paths)" if others else ""
        return f"FileSource({first}{more}{f', watch={self.watch}' if self.watch else ''})"

    def _told(self) -> Told:
        schema = self.output_type().schema
        if self.schema is not None or not isinstance(schema, Schema):
            return Told(self._paths[0])
        return Told(self._paths[0], {name: str(dtype) for name, dtype in schema.items()})

    def _csv(self) -> CsvOptions:
        return CsvOptions(self.separator, self.has_header, tuple(self.null_values), self.quote)

    def _list(self) -> list[FoundFile]:
        return list_files(
            self._paths,
            self.format,
            may_be_empty=self.watch is not None,
            empty_folders=self.schema is not None,
        )

    def _find_schema(self) -> StreamSchema:
        """Looks at the files even if the schema is given: a path that names nothing is an error when the job is
        built."""
        files = self._list()
        if isinstance(self.schema, Objects):
            return OBJECTS
        if self.schema is None:
            if not files and all("text" in (self.format, by_suffix(path)[0]) for path in self._paths):
                return Schema({TEXT_COLUMN: pl.String()})
            return infer_schema(files, self._csv(), growing=self.watch is not None)
        assert isinstance(self.schema, Schema)
        if files and files[0].format in ("ndjson", "csv"):
            wire_types(self.schema, files[0].format)
        if files and files[0].format == "text":
            self._check_text(self.schema, files[0])
        return self.schema

    def _check_text(self, schema: Schema, file: FoundFile) -> None:
        folders = dict(file.partitions)
        for name, dtype in schema.items():
            if name not in folders and (name, dtype) != (TEXT_COLUMN, pl.String()):
                raise JobDefinitionError(
                    f"{file.path!r} is text, which has the column {TEXT_COLUMN!r} of String, not {name!r} of {dtype}",
                    hint=f'leave schema= out and continue with col("{TEXT_COLUMN}"), or give another format=',
                )
