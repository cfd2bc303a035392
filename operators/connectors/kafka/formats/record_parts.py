"""The parts of Kafka records made of a batch: values, keys, timestamps and headers, column by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import polars as pl

from streamflow.arguments import instance
from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE, EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError, Where, cut
from streamflow.operators.connectors.kafka.clients.port import Headers
from streamflow.operators.connectors.kafka.formats.values import Encoder, chosen_columns
from streamflow.operators.connectors.text_columns import as_text_carries, json_lines
from streamflow.operators.stateless.rows import each_row
from streamflow.user_code import described, line_of_error, raised_by_user

__all__ = [
    "ChangeRecords",
    "HeaderColumns",
    "Key",
    "RecordMaker",
    "RecordParts",
    "TimestampColumn",
    "headers_size",
    "record_maker",
]

_HEADER: Final = 6
"""The bytes that a header takes beside its name and its value: their lengths."""

Key = str | Sequence[str] | pl.Expr | Callable[[Any], Any] | None
TimestampColumn = str | pl.Expr | None
HeaderColumns = Mapping[str, str | pl.Expr] | None

_Column = Callable[[AnyBatch], Sequence[bytes | None]]


class RecordParts(NamedTuple):
    """A batch's records, in its order; the columns are of equal length. `timestamps` in microseconds since 1970, None
    for the time of writing."""

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    timestamps: Sequence[int | None]
    headers: Sequence[Headers]


def headers_size(headers: Headers) -> int:
    """The bytes that headers take in a record."""
    return sum(len(name.encode()) + len(value or b"") + _HEADER for name, value in headers)


@dataclass(frozen=True, slots=True)
class RecordMaker:
    """A maker of records out of batches; pure, so that it may run on any thread."""

    encoder: Encoder
    key: _Column | None
    timestamp: Callable[[AnyBatch], Sequence[int | None]] | None
    headers: Mapping[str, _Column]
    schema: Schema | None = None

    def __call__(self, batch: AnyBatch) -> RecordParts:
        rows = len(batch)
        if self.schema is not None and isinstance(batch, RowBatch):
            batch = _framed(batch, self.schema)
        return RecordParts(
            self.encoder.encode(batch),
            [None] * rows if self.key is None else self.key(batch),
            [None] * rows if self.timestamp is None else self.timestamp(batch),
            self._headers(batch) if self.headers else [()] * rows,
        )

    def _headers(self, batch: AnyBatch) -> Sequence[Headers]:
        names = list(self.headers)
        columns = [column(batch) for column in self.headers.values()]
        return [tuple(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


@dataclass(frozen=True, slots=True)
class ChangeRecords:
    """A maker of records out of changes: the new row of each, and a record without a value for a row that is gone."""

    records: RecordMaker
    schema: Schema

    def __call__(self, batch: AnyBatch) -> RecordParts:
        frame = _frame(_framed(batch, self.schema) if isinstance(batch, RowBatch) else batch)
        frame = frame.filter(frame[CHANGE] != "update_before")
        parts = self.records(FrameBatch(frame.drop(CHANGE)))
        gone = frame[CHANGE] == "delete"
        if not gone.any():
            return parts
        values = [None if deleted else value for value, deleted in zip(parts.values, gone, strict=True)]
        return parts._replace(values=values)


def record_maker(
    encoder: Encoder, input_type: StreamType, *, key: Key, timestamp: TimestampColumn, headers: HeaderColumns
) -> RecordMaker:
    """The maker for streams of this type. A key of one column is its text (bytes as they are), of several a JSON
    object of them; a function gets the row and returns text, bytes, None, or a value that JSON can carry. Header
    values are text likewise.

    Raises JobDefinitionError for columns that are missing or do not fit.
    """
    return RecordMaker(
        encoder,
        None if key is None else _key(key, input_type),
        None if timestamp is None else _times(timestamp, input_type),
        {name: _text("a header", column, input_type) for name, column in (headers or {}).items()},
        input_type.schema if isinstance(input_type.schema, Schema) else None,
    )


def _key(key: Key, input_type: StreamType) -> _Column:
    if isinstance(key, str | pl.Expr):
        return _text("key", key, input_type)
    if callable(key):
        return _KeyFunction(key)
    if not isinstance(key, Sequence) or not key or not all(isinstance(name, str) for name in key):
        raise JobDefinitionError(
            f"key is {key!r}", hint="give a column's name, several, an expression or a function of the row"
        )
    if len(key) == 1:
        return _text("key", key[0], input_type)
    schema = _columns("key", input_type)
    for name in key:
        schema.need(name)
    return _JsonKey(tuple(key))


def _columns(what: str, input_type: StreamType) -> Schema:
    if not isinstance(input_type.schema, Schema):
        raise JobDefinitionError(
            f"{what} names a column, but this stream holds Python objects",
            hint="key= takes a function of the object; or give the last function a return type, so that there are "
            "columns",
        )
    return input_type.schema


def _expression(what: str, column: str | pl.Expr, input_type: StreamType) -> tuple[pl.Expr, pl.DataType]:
    instance(column, what, str, pl.Expr, hint="give a column's name, or an expression")
    schema = _columns(what, input_type)
    if isinstance(column, str):
        dtype = schema.need(column)
        return pl.col(column), dtype
    try:
        found = schema.empty(timed=input_type.timed).lazy().select(column).collect_schema()
    except pl.exceptions.PolarsError as error:
        raise JobDefinitionError(
            f"{what} cannot be computed: {error}", hint=f"the columns are: {', '.join(schema)}"
        ) from error
    if len(found) != 1:
        raise JobDefinitionError(f"{what} gives {len(found)} columns", hint="it must give one")
    return column, next(iter(found.values()))


def _text(what: str, column: str | pl.Expr, input_type: StreamType) -> _Column:
    expression, dtype = _expression(what, column, input_type)
    if dtype == pl.Object:
        raise JobDefinitionError(f"{what} has the type {dtype}", hint="cast it to String or Binary")
    return _TextColumn(expression, dtype)


def _times(column: str | pl.Expr, input_type: StreamType) -> Callable[[AnyBatch], Sequence[int | None]]:
    expression, dtype = _expression("timestamp", column, input_type)
    if not isinstance(dtype, pl.Datetime):
        raise JobDefinitionError(
            f"timestamp has the type {dtype}",
            hint="it must be a Datetime: convert it with pl.from_epoch or .cast",
        )
    if dtype.time_zone not in (None, "UTC"):
        expression = expression.dt.convert_time_zone("UTC")
    micros = expression.dt.timestamp("us")

    def times(batch: AnyBatch) -> Sequence[int | None]:
        return _frame(batch).select(micros).to_series().to_list()

    return times


@dataclass(frozen=True, slots=True)
class _TextColumn:
    expression: pl.Expr
    dtype: pl.DataType

    def __call__(self, batch: AnyBatch) -> Sequence[bytes | None]:
        frame = _frame(batch).select(self.expression.alias("text"))
        if frame.height != len(batch):
            # A constant has one row for all of them.
            frame = pl.concat([frame] * len(batch)) if frame.height == 1 else frame
        if self.dtype.is_nested():
            lines: list[bytes | None] = list(json_lines(FrameBatch(frame)).split(b"\n")[:-1])
            opening, closing = len(b'{"text":'), len(b"}")
            return [
                None if null else line[opening:-closing] if line is not None else None
                for line, null in zip(lines, frame["text"].is_null(), strict=True)
            ]
        if self.dtype == pl.Binary:
            return frame["text"].to_list()
        series = as_text_carries(frame)["text"].cast(pl.String)
        return [None if text is None else text.encode() for text in series.to_list()]


@dataclass(frozen=True, slots=True)
class _JsonKey:
    names: tuple[str, ...]

    def __call__(self, batch: AnyBatch) -> Sequence[bytes | None]:
        return json_lines(FrameBatch(_frame(batch).select(self.names))).split(b"\n")[:-1]


@dataclass(frozen=True, slots=True)
class _KeyFunction:
    function: Callable[[Any], Any]

    def __call__(self, batch: AnyBatch) -> Sequence[bytes | None]:
        return [self._key(row) for row in list(each_row(batch))]

    def _key(self, row: Any) -> bytes | None:
        try:
            key = self.function(row)
        except BaseException as raised:
            cause = raised_by_user(raised)
            raise RecordError(
                f"the function given as key= raised {described(cause)}",
                record=row,
                where=Where(code=line_of_error(cause)),
            ) from raised
        if key is None or isinstance(key, bytes):
            return key
        try:
            return key.encode() if isinstance(key, str) else msgspec.json.encode(key)
        except (TypeError, ValueError) as error:
            raise RecordError(
                f"the function given as key= answers a {type(key).__name__}: {cut(key)}",
                record=row,
                hint="return text, bytes, None, or a value that JSON can carry",
            ) from error


def _frame(batch: AnyBatch) -> pl.DataFrame:
    assert isinstance(batch, FrameBatch)
    return batch.frame


def _framed(batch: RowBatch, schema: Schema) -> FrameBatch:
    """Rows of a stream with columns, as Python functions give them, as a frame."""
    frame = chosen_columns(batch, schema)
    if batch.times is None:
        return FrameBatch(frame)
    times = pl.Series(EVENT_TIME, list(batch.times), dtype=pl.Int64).cast(EVENT_TIME_TYPE)
    return FrameBatch(frame.with_columns(times))
