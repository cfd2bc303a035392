"""The schema of files without a declared one: from the first rows of the first file that holds any, then pinned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import polars as pl

from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME_TYPE, Schema
from streamflow.core.values import EXACT
from streamflow.errors import JobDefinitionError, SourceError
from streamflow.operators.connectors.files.formats.byte_streams import refuse_other_bytes
from streamflow.operators.connectors.files.formats.csv_format import CsvColumns, CsvHeader, CsvOptions
from streamflow.operators.connectors.files.formats.doubled_names import has_twins
from streamflow.operators.connectors.files.formats.line_format import LineFormat
from streamflow.operators.connectors.files.formats.ndjson import NdjsonObjects
from streamflow.operators.connectors.files.formats.tables import scan_table
from streamflow.operators.connectors.files.formats.text import TEXT_COLUMN
from streamflow.operators.connectors.files.formats.wire_types import (
    INFINITY,
    convert_where_possible,
    fields_of,
    inner_of,
    is_finer,
)
from streamflow.operators.connectors.files.listing import FoundFile
from streamflow.operators.connectors.files.partitions import partition_types
from streamflow.operators.connectors.files.sequential_reader import RecordStream

__all__ = ["check_inferred", "infer_schema"]

_ROWS: Final = 1000
_BYTES: Final = 1 << 20
_NO_NUMBER: Final = r"^(\+\d+$|[+-]?0\d)"
"""A pattern of postcodes and telephone numbers: neither 01234 nor +491234 is a number."""
_UTC_TEXT: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$"
_NANOSECONDS: Final = pl.Datetime("ns", "UTC")


def infer_schema(files: Sequence[FoundFile], options: CsvOptions, *, growing: bool) -> Schema:
    """The columns of the first file that holds records, from its first 1,000 rows.

    Text that is always a time as `2013-01-01T05:17:00Z` becomes Datetime, in nanoseconds if it has their digits; a
    column of nulls becomes String. Raises SourceError if no file holds a record, or the first rows cannot be read.
    """
    for file in files:
        if file.format == "text":
            return _with_folders({TEXT_COLUMN: pl.String()}, files)
        if file.format in ("parquet", "arrow"):
            return _with_folders(scan_table(file.path, file.format).collect_schema(), files)
        refuse_other_bytes(file.path, file.compression)
        schema = _of_json(file) if file.format == "ndjson" else _of_csv(file, options, growing)
        if schema is not None:
            return _with_folders(schema, files)
    names = ", ".join(repr(file.path) for file in files[:3]) + (", …" if len(files) > 3 else "")
    there = f"there is nothing in {names}" if names else "there is no file yet"
    raise SourceError(f"{there} to infer columns from", hint="give them: schema={…}")


def _with_folders(columns: Mapping[str, pl.DataType], files: Sequence[FoundFile]) -> Schema:
    return Schema({**columns, **partition_types([dict(file.partitions) for file in files])})


def check_inferred(saved: Mapping[str, str], now: Mapping[str, str], path: str) -> None:
    """Raises SourceError if a continued job would read other columns or types than before: the files that they were
    inferred from are gone, or have changed."""
    if saved == now:
        return
    differing = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    shown = ", ".join(
        f"{name!r} was {saved.get(name, 'not there')} and is {now.get(name, 'not there')}"
        for name in differing[:3]
    )
    types = ", ".join(f"{name!r}: sf.{dtype}" for name, dtype in saved.items())
    raise SourceError(
        f"the columns of {path!r} come from its first rows, which differ now: {shown}",
        hint=f"give them: schema={{{types}}}",
    )


def _first_rows(
    file: FoundFile, form: LineFormat, start: int, *, growing: bool = False
) -> list[tuple[int, bytes]]:
    """(line number, record) of the first records."""
    stream = RecordStream(
        file.path,
        file.compression,
        form,
        start=start,
        end=None,
        batch_rows=_ROWS,
        most=_BYTES,
        growing=growing,
    )
    rows: list[tuple[int, bytes]] = []
    try:
        while len(rows) < _ROWS and (run := stream.next_run()) is not None:
            first = run.first_line()
            rows.extend((first + line, record) for line, record in form.records(run.body))
    finally:
        stream.close()
    return rows[:_ROWS]


def _of_json(file: FoundFile) -> Schema | None:
    rows = _first_rows(file, NdjsonObjects(), 0)
    decode = msgspec.json.Decoder().decode
    good: list[bytes] = []
    for _, record in rows:
        try:
            value = decode(record)
            if isinstance(value, dict):
                good.append(msgspec.json.encode(value) if has_twins(record) else record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    if not good:
        if rows:
            line, record = rows[0]
            hint = "write one object a line (jq -c '.[]')" if record.lstrip()[:1] == b"[" else "is it JSON?"
            raise SourceError(
                f"{file.path!r}: no JSON object in the first rows, from line {line} on", hint=hint
            )
        return None
    try:
        frame = pl.read_ndjson(b"\n".join(good), infer_schema_length=None)
        _named(frame.schema)
        values = list(map(decode, good))
        exact = {
            name: _exact(dtype, [value.get(name) for value in values]) for name, dtype in frame.schema.items()
        }
        frame = frame.with_columns(
            pl.lit(None, dtype).alias(name) for name, dtype in exact.items() if dtype != frame.schema[name]
        )
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            f"{file.path!r}: the first rows do not fit one schema: {str(error).splitlines()[0]}",
            hint="give the columns: schema={…}, or schema=sf.OBJECTS for Python objects",
        ) from error
    return _pinned(frame)


def _exact(dtype: pl.DataType, values: Iterable[Any]) -> pl.DataType:
    """The type with text in place of floats, at any depth, if a float would change an integer among these values: it
    is an identifier, then."""
    if dtype.is_float():
        return pl.String() if any(map(_rounded, values)) else dtype
    if isinstance(dtype, pl.List):
        return pl.List(_exact(inner_of(dtype), chain.from_iterable(_only(list, values))))
    if isinstance(dtype, pl.Struct):
        there = _only(dict, values)
        return pl.Struct(
            {
                name: _exact(inner, [value.get(name) for value in there])
                for name, inner in fields_of(dtype).items()
            }
        )
    return dtype


def _only(kind: type, values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, kind)]


def _rounded(value: Any) -> bool:
    try:
        return type(value) is int and int(float(value)) != value
    except OverflowError:
        return True


def _of_csv(file: FoundFile, options: CsvOptions, growing: bool) -> Schema | None:
    header = CsvHeader.read(file.path, file.compression, options, growing=growing)
    if header is None:
        return None
    _named(dict.fromkeys(header.fields, pl.String()))
    texts = CsvColumns(dict.fromkeys(header.fields, pl.String()), header.fields, options, file.path)
    rows = _first_rows(file, texts, header.data_start, growing=growing)
    if not rows:
        return None
    batch = texts.sift([record for _, record in rows]).batch
    assert isinstance(batch, FrameBatch)
    frame = batch.frame
    return _pinned(frame.select(_as_narrow_as_possible(frame[name]) for name in frame.columns))


def _as_narrow_as_possible(text: pl.Series) -> pl.Series:
    """The narrowest type: integers, else numbers, else booleans, else text; text also if a number would change or
    lose leading zeros."""
    # Programs that put all values between quotes write "" for null.
    values = text.filter(text != "")
    if values.is_empty():
        return text
    for dtype in (pl.Int64, pl.UInt64, pl.Float64):
        if _fits(values, dtype):
            return text.cast(dtype, strict=False)
    if values.str.to_lowercase().is_in(["true", "false"]).all():
        return text.str.to_lowercase() == "true"
    return text


def _fits(values: pl.Series, dtype: type[pl.DataType]) -> bool:
    if values.str.contains(_NO_NUMBER).any():
        return False
    numbers = values.cast(dtype, strict=False)
    if numbers.has_nulls():
        return False
    if dtype is not pl.Float64:
        return True
    # Two integers that are one number as floats are two identifiers.
    rounded = values.str.contains(r"^[+-]?\d+$") & (numbers.abs() >= EXACT)
    infinite = numbers.is_infinite() & ~values.str.contains(INFINITY)
    return not (rounded | infinite).any()


def _pinned(frame: pl.DataFrame) -> Schema:
    columns: dict[str, pl.DataType] = {}
    for name, dtype in frame.schema.items():
        values = frame[name].drop_nulls()
        columns[name] = _time_of(values) or _without_null_type(dtype)
    return _named(columns)


def _named(columns: Mapping[str, pl.DataType]) -> Schema:
    """The columns as a schema; raises JobDefinitionError for names that no column of a stream can have."""
    try:
        return Schema(columns)
    except JobDefinitionError as error:
        error.hint = "name the columns to read: schema={…}"
        raise


def _time_of(texts: pl.Series) -> pl.DataType | None:
    """The type of text that is always a time; None for other values, and for impossible times."""
    if texts.dtype != pl.String or texts.is_empty() or not texts.str.contains(_UTC_TEXT).all():
        return None
    dtype = _NANOSECONDS if is_finer(texts, EVENT_TIME_TYPE) else EVENT_TIME_TYPE
    held = convert_where_possible(texts.to_frame(), {texts.name: dtype})[texts.name]
    return None if held.has_nulls() else dtype


def _without_null_type(dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.Null):
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(_without_null_type(dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _without_null_type(field.dtype) for field in dtype.fields})  # type: ignore[arg-type]
    return dtype
