"""Frames and rows as bytes of files: appended to text files piece by piece, written whole as tables."""

from __future__ import annotations

import csv
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.disk import Disk
from streamflow.errors import JobDefinitionError, SinkError, cut
from streamflow.operators.connectors.files.failures import writing
from streamflow.operators.connectors.files.formats.csv_format import CsvOptions, csv_fields
from streamflow.operators.connectors.files.formats.formats import FileFormat
from streamflow.operators.connectors.files.formats.wire_types import fields_of, holds_bytes, inner_of
from streamflow.operators.connectors.text_columns import as_text_carries, json_lines

__all__ = ["SUFFIXES", "append", "check_continues", "check_format", "empty_file", "join_files"]

SUFFIXES: Final[dict[FileFormat, str]] = {
    "ndjson": ".ndjson",
    "csv": ".csv",
    "parquet": ".parquet",
    "arrow": ".arrow",
}


def check_format(format: FileFormat, input_type: StreamType) -> None:
    """Raises JobDefinitionError if the format cannot carry the stream."""
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
            or (format in ("csv", "ndjson") and holds_bytes(dtype))
            or (format == "parquet" and _holds_nothing(dtype))
        ):
            raise JobDefinitionError(
                f"{format} cannot carry column {name!r} ({dtype})", hint="drop it, or cast it"
            )


def _holds_nothing(dtype: pl.DataType) -> bool:
    """Whether a type is a struct without fields, or contains one."""
    if isinstance(dtype, (pl.List, pl.Array)):
        return _holds_nothing(inner_of(dtype))
    fields = fields_of(dtype) if isinstance(dtype, pl.Struct) else None
    return fields is not None and (not fields or any(map(_holds_nothing, fields.values())))


def append(disk: Disk, path: Path, format: FileFormat, batch: AnyBatch, separator: str = ",") -> None:
    """Writes a batch to a file: text is appended, a table is the whole file."""
    with writing(str(path)):
        if isinstance(batch, FrameBatch) and format in ("parquet", "arrow"):
            disk.write(path, _table(format, batch.frame))
        elif format == "ndjson":
            disk.append(path, json_lines(batch))
        else:
            disk.append(path, _csv_lines(batch, separator, header=not disk.exists(path)))


def empty_file(
    disk: Disk, path: Path, format: FileFormat, schema: Schema | None, separator: str = ","
) -> None:
    """Writes a file with the columns and no rows."""
    if schema is not None and format != "ndjson":
        append(disk, path, format, FrameBatch(schema.empty(timed=False)), separator)
    else:
        with writing(str(path)):
            disk.write(path, b"")


def join_files(disk: Disk, paths: list[Path], target: Path, format: FileFormat) -> None:
    """Joins files into one, in order. Tables are held in memory in encoded form, text one file at a time."""
    with writing(str(target)):
        if format in ("parquet", "arrow"):
            joined = BytesIO()
            parts: list[IO[bytes]] = [BytesIO(disk.read(path)) for path in paths]
            if format == "parquet":
                pl.scan_parquet(parts).sink_parquet(joined)
            else:
                pl.scan_ipc(parts).sink_ipc(joined)
            disk.write(target, joined.getvalue())
            return
        disk.write(target, b"")
        begun = False
        for path in paths:
            body = disk.read(path)
            if begun and format == "csv":
                body = _without_header(body)
            # Files of other programs may lack the last newline.
            if body:
                disk.append(target, body if body.endswith(b"\n") else body + b"\n")
            begun = begun or bool(body.strip())


def _without_header(body: bytes) -> bytes:
    """The CSV text without its header line; a name may hold newlines between quotes."""
    end = body.find(b"\n") + 1
    while end and body.count(b'"', 0, end) % 2:
        end = body.find(b"\n", end) + 1
    return body[end:] if end else b""


def _table(format: FileFormat, frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    # The frame may be in other hands too: core.serde says why it is cloned.
    own = frame.clone()
    if format == "parquet":
        own.write_parquet(buffer)
    else:
        own.write_ipc(buffer)
    return buffer.getvalue()


def _csv_lines(batch: AnyBatch, separator: str, *, header: bool) -> bytes:
    assert isinstance(batch, FrameBatch)
    frame = as_text_carries(batch.user_frame())
    return frame.write_csv(include_header=header, separator=separator).encode()


def check_continues(
    disk: Disk, path: Path, format: FileFormat, schema: Schema | None, separator: str
) -> None:
    """Raises SinkError if the rows of a stream cannot be appended to an existing file."""
    if schema is None or format == "ndjson" or not disk.exists(path):
        return
    with writing(str(path)):
        body = disk.read(path)
    if format == "csv" and body.count(b'"') % 2:
        raise SinkError(f"{str(path)!r} ends within a quoted field", hint="write to another file, or mend it")
    if format == "csv":
        there: list[Any] = _names(body, separator, str(path)) if body.strip() else list(schema)
        ours: list[Any] = list(schema)
    else:
        read = pl.read_parquet_schema if format == "parquet" else pl.read_ipc_schema
        try:
            there, ours = list(read(BytesIO(body)).items()), list(schema.items())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SinkError(
                f"{str(path)!r} is no {format} file: {error}", hint="write to another file"
            ) from error
    if there != ours:
        shown = " and ".join(", ".join(map(_told, columns)) for columns in (there, ours))
        raise SinkError(
            f"{str(path)!r} has other columns than the stream: {cut(shown, 300)}",
            hint="select the same columns in the same order, or write to another file",
        )


def _told(column: str | tuple[str, pl.DataType]) -> str:
    return column if isinstance(column, str) else f"{column[0]} ({column[1]})"


def _names(body: bytes, separator: str, path: str) -> list[str]:
    """The columns that the first line of a CSV file names."""
    end = len(body) - len(_without_header(body))
    try:
        return csv_fields(body[:end].removesuffix(b"\n").removesuffix(b"\r"), CsvOptions(separator))
    except (csv.Error, UnicodeDecodeError) as error:
        raise SinkError(
            f"{path!r} has a first line that is no CSV ({error})", hint="write to another file"
        ) from error
