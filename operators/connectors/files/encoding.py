"""Frames and rows as files: appended to text files piece by piece, written whole as tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl

from streamflow.errors import JobDefinitionError
from streamflow.operators.base import StreamType
from streamflow.operators.connectors.files.failures import writing
from streamflow.operators.connectors.files.formats import FileFormat
from streamflow.operators.connectors.json_rows import json_lines
from streamflow.operators.connectors.text_columns import as_text_carries
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch
from streamflow.records.schema import Schema

__all__ = ["SUFFIXES", "append", "check_format", "empty_file", "join_files", "sync_file", "sync_folder"]

SUFFIXES: Final[dict[FileFormat, str]] = {
    "ndjson": ".ndjson",
    "csv": ".csv",
    "parquet": ".parquet",
    "arrow": ".arrow",
}
_BLOCK: Final = 1 << 20


def check_format(format: FileFormat, input_type: StreamType) -> None:
    """Raises JobDefinitionError where the format cannot carry the stream."""
    if not isinstance(input_type.schema, Schema):
        if format != "ndjson":
            raise JobDefinitionError(
                f"a stream of Python objects cannot be written as {format}",
                hint='write format="ndjson", or give the last function a return type so that there are columns',
            )
        return
    for name, dtype in input_type.schema.items():
        if (
            dtype == pl.Object
            or (format == "csv" and dtype.is_nested())
            or (format in ("csv", "ndjson") and dtype == pl.Binary)
        ):
            raise JobDefinitionError(
                f"{format} cannot carry column {name!r} ({dtype})", hint="drop it, or cast it"
            )


def append(path: Path, format: FileFormat, batch: AnyBatch) -> None:
    """Write a batch to a file: behind what is there for text, as the whole file for tables."""
    with writing(str(path)):
        if isinstance(batch, FrameBatch) and format in ("parquet", "arrow"):
            _write_table(path, format, batch.frame)
            return
        body = json_lines(batch) if format == "ndjson" else _csv_lines(batch, header=not path.exists())
        with path.open("ab") as file:
            file.write(body)


def empty_file(path: Path, format: FileFormat, schema: Schema | None) -> None:
    """A file with the columns and no rows."""
    with writing(str(path)):
        if schema is not None and format != "ndjson":
            append(path, format, FrameBatch(schema.empty(timed=False)))
        else:
            path.touch()


def join_files(paths: list[Path], target: Path, format: FileFormat) -> None:
    """One file of all, in order."""
    with writing(str(target)):
        if format == "parquet":
            pl.scan_parquet(paths, glob=False).sink_parquet(target)
        elif format == "arrow":
            pl.scan_ipc(paths, glob=False).sink_ipc(target)
        else:
            with target.open("wb") as joined:
                for number, path in enumerate(paths):
                    with path.open("rb") as file:
                        if number and format == "csv":
                            _skip_header(file)
                        while block := file.read(_BLOCK):
                            joined.write(block)


def sync_file(path: Path) -> None:
    """Wait until the file's content is on the disk."""
    with writing(str(path)), path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in the folder are on the disk."""
    with writing(str(path)):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _skip_header(file: BinaryIO) -> None:
    """Pass the line that names the columns; a name may hold newlines between quotes."""
    quotes = file.readline().count(b'"')
    while quotes % 2:
        quotes += file.readline().count(b'"')


def _write_table(path: Path, format: FileFormat, frame: pl.DataFrame) -> None:
    if format == "parquet":
        frame.write_parquet(path)
    else:
        frame.write_ipc(path)


def _csv_lines(batch: AnyBatch, *, header: bool) -> bytes:
    assert isinstance(batch, FrameBatch)
    return as_text_carries(batch.user_frame()).write_csv(include_header=header).encode()
