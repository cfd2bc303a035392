"""Columns for text formats: times as ISO 8601 in UTC, durations as integers in the column's unit, at any depth. Batches
as JSON, one value a line."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec
import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.python_times import any_untold, shown_row
from streamflow.core.struct_fields import field_expressions
from streamflow.errors import RecordError, SinkError, cut

__all__ = ["as_text_carries", "json_lines"]

_UTC_TIME: Final = "%Y-%m-%dT%H:%M:%S%.fZ"


def as_text_carries(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its times as `2013-01-01T05:17:00Z` and its durations as integers.

    Raises RecordError for a time too far away to be written as text.

    >>> as_text_carries(pl.DataFrame({"t": [0]}, schema={"t": pl.Datetime("us", "UTC")})).rows()
    [('1970-01-01T00:00:00Z',)]
    """
    for column in frame:
        if (column.dtype.is_temporal() or column.dtype.is_nested()) and any_untold(column):
            raise _untold(frame, column)
    changed = [
        _carried(pl.col(name), dtype).alias(name) for name, dtype in frame.schema.items() if _differs(dtype)
    ]
    return frame.with_columns(changed) if changed else frame


def _untold(frame: pl.DataFrame, column: pl.Series) -> RecordError:
    row = next(row for row in range(len(column)) if any_untold(column[row : row + 1]))
    record = shown_row(frame, row)
    return RecordError(
        f"column {column.name!r} holds {record[column.name]}, which text cannot carry",
        record=record,
        hint='write format="parquet" or "arrow", or take such records out before',
    )


def _differs(dtype: Any) -> bool:
    """Whether a type, or a type inside of it, is written as another."""
    if isinstance(dtype, (pl.List, pl.Array)):
        return _differs(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return any(_differs(field.dtype) for field in dtype.fields)
    return dtype in (pl.Datetime, pl.Duration, pl.Time)


def _carried(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if not _differs(dtype):
        return column
    if isinstance(dtype, pl.Datetime):
        utc = column if dtype.time_zone in (None, "UTC") else column.dt.convert_time_zone("UTC")
        return utc.dt.to_string(_UTC_TIME)
    if isinstance(dtype, pl.Time):
        # A cast cuts fractions of a second.
        return column.dt.to_string("%H:%M:%S%.f")
    if isinstance(dtype, pl.Array):
        return _carried(column.arr.to_list(), pl.List(dtype.inner))
    if isinstance(dtype, pl.List):
        return column.list.eval(_carried(pl.element(), cast(pl.DataType, dtype.inner)))
    if isinstance(dtype, pl.Struct):
        fields = [
            _carried(value, inner).alias(name) for name, inner, value in field_expressions(column, dtype)
        ]
        return pl.when(column.is_not_null()).then(pl.struct(fields))
    return column.cast(pl.Int64)


_FEW: Final = 1_000
_HINT: Final = "turn it into plain values with .map first"


def json_lines(batch: AnyBatch) -> bytes:
    """A batch as JSON lines: a frame's rows as objects, Python values as they are (dicts, lists, dataclasses, times,
    …). NaN and infinity become null. Raises SinkError for a value that JSON cannot carry.

    >>> from streamflow.core.batch import RowBatch
    >>> json_lines(RowBatch([{"a": 1}, "b"]))
    b'{"a":1}\\n"b"\\n'
    """
    if isinstance(batch, FrameBatch):
        frame = batch.user_frame()
        return _of_frame(as_text_carries(frame)) if frame.width else b"{}\n" * len(batch)
    try:
        return _ENCODER.encode_lines(list(batch.values))
    except (TypeError, ValueError, RecursionError) as error:
        raise SinkError(f"JSON cannot carry a value of this stream: {error}", hint=_HINT) from error


def _of_frame(frame: pl.DataFrame) -> bytes:
    if frame.height > _FEW:
        return frame.write_ndjson().encode()
    # The same text without the query that writes it, which takes most of the time for few rows.
    lines: list[str] = frame.to_struct().struct.json_encode().to_list()
    return "".join(f"{line}\n" for line in lines).encode()


def _unknown(value: object) -> object:
    raise SinkError(f"JSON cannot carry a {type(value).__name__}: {cut(value)}", hint=_HINT)


_ENCODER = msgspec.json.Encoder(enc_hook=_unknown)
