"""Records as a test writes them (dicts, values, DataFrames) made into the batches that a source would give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError, unknown_name
from streamflow.operators.stateless.row_builder import row_dicts
from streamflow.operators.stateless.rows import frame_of
from streamflow.time.timestamps import to_micros

__all__ = ["Times", "batch_of", "values_of"]

Times = Iterable[datetime | str | int]
"""Event times beside the records: datetimes, ISO 8601 texts or microseconds since 1970 in UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def batch_of(
    records: pl.DataFrame | Iterable[Any], type_: StreamType, times: Times | None = None
) -> AnyBatch:
    """A batch of this type. A field that a dict leaves out is null; text in a time column is read as ISO 8601 in UTC.

    Raises JobDefinitionError for a column that the stream does not have and for a value that does not fit.

    >>> type_ = StreamType(Schema({"k": pl.String, "at": pl.Datetime}), timed=False)
    >>> batch_of([{"k": "a", "at": "1970-01-01T00:00:01Z"}], type_).frame["at"].to_physical().to_list()
    [1000000]
    """
    moments = None if times is None else [to_micros(time) for time in times]
    schema = type_.schema
    if isinstance(records, pl.DataFrame):
        if moments is None and EVENT_TIME in records.columns:
            moments = records[EVENT_TIME].to_physical().to_list()
        listed: list[Any] = records.drop(EVENT_TIME, strict=False).to_dicts()
    else:
        listed = list(records)
    if moments is not None and len(moments) != len(listed):
        raise JobDefinitionError(
            f"{len(listed)} records and {len(moments)} event times", hint="give one for each"
        )
    if not isinstance(schema, Schema):
        return RowBatch(listed, moments)
    if not listed:
        return FrameBatch(schema.empty(timed=moments is not None))
    bad: list[RecordError] = []
    frame = frame_of(RowBatch(_typed(listed, schema)), schema, bad).frame
    if bad:
        raise JobDefinitionError(
            f"{bad[0].message}\n  record: {bad[0].record}", hint="correct the record in the test"
        )
    if moments is not None:
        frame = frame.with_columns(pl.Series(EVENT_TIME, moments, dtype=pl.Int64).cast(EVENT_TIME_TYPE))
    return FrameBatch(frame)


def values_of(batch: AnyBatch) -> Sequence[Any]:
    """A batch as Python values: dicts for columns, the values themselves for objects."""
    return batch.values if isinstance(batch, RowBatch) else list(row_dicts(batch.user_frame()))


def _typed(records: list[Any], schema: Schema) -> list[Any]:
    """Records with every field, times as the columns hold them; a record that is no mapping stays as it is."""
    dated = {name: dtype for name, dtype in schema.items() if isinstance(dtype, (pl.Datetime, pl.Date))}
    names = dict.fromkeys(schema)
    typed: list[Any] = []
    for record in records:
        if not isinstance(record, Mapping):
            typed.append(record)
            continue
        fields = cast("Mapping[str, Any]", record)
        if unknown := fields.keys() - names.keys():
            message, hint = unknown_name("column", str(unknown.pop()), schema)
            raise JobDefinitionError(message, hint=hint)
        dates = {name: _value(fields.get(name), dtype) for name, dtype in dated.items()}
        typed.append({**names, **fields, **dates})
    return typed


def _value(value: Any, dtype: pl.Datetime | pl.Date) -> Any:
    if isinstance(value, str):
        moment = _EPOCH + timedelta(microseconds=to_micros(value))
        return moment.date() if isinstance(dtype, pl.Date) else _zoned(moment, dtype)
    if isinstance(value, datetime) and isinstance(dtype, pl.Datetime):
        return _zoned(value if value.tzinfo is not None else value.replace(tzinfo=UTC), dtype)
    return value


def _zoned(moment: datetime, dtype: pl.Datetime) -> datetime:
    """The moment for the column: naive columns hold UTC."""
    return moment if dtype.time_zone is not None else moment.astimezone(UTC).replace(tzinfo=None)
