"""Rows and columns of one stream into each other: the `Convert` operator that the planner puts between two layouts.

A row is a dict of the columns, or the bare value where there is only one column.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from streamflow.errors import JobDefinitionError, RecordError
from streamflow.operators.base import (
    BatchFunction,
    Collector,
    ErrorPolicy,
    Layout,
    OperatorContext,
    PureSpec,
    StreamType,
)
from streamflow.operators.guard import DEAD_LETTER_TYPE, Guard
from streamflow.operators.row_builder import row_dicts
from streamflow.records.batch import RowBatch
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch
from streamflow.records.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema

__all__ = ["Convert", "convert", "frame_of", "rows_of"]


@dataclass(frozen=True)
class Convert(PureSpec):
    """The same records in the other layout."""

    kind: ClassVar[str] = "convert"
    to: Layout = Layout.ROWS
    on_error: ErrorPolicy = "fail"

    @property
    def emits(self) -> Layout:  # type: ignore[override]
        return self.to

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        if self.to is Layout.FRAME and not isinstance(inputs[0].schema, Schema):
            raise JobDefinitionError(
                "this stream holds Python objects, and columns are needed here",
                hint="give the source a schema=, or the function before a return annotation or schema=",
            )
        return inputs[0]

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return None

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        schema = inputs[0].schema
        guard = Guard(ctx.operator_id, self.on_error, ctx.metrics)

        def run(batch: AnyBatch, out: Collector) -> None:
            if self.to is Layout.ROWS:
                out.emit(rows_of(batch))
            else:
                assert isinstance(schema, Schema)
                bad: list[RecordError] = []
                frame = frame_of(batch, schema, bad)
                guard.bad(bad, out)
                out.emit(frame)

        return run

    def describe(self) -> str:
        return f"to {self.to.value}"


def convert(wanted: Layout, type_: StreamType) -> PureSpec:
    """The planner's factory for conversions."""
    return Convert(to=wanted)


def rows_of(batch: AnyBatch) -> RowBatch:
    """A batch as rows; one that holds rows already is returned as it is."""
    if isinstance(batch, RowBatch):
        return batch
    times = batch.frame[EVENT_TIME].to_physical().to_list() if batch.timed else None
    frame = batch.user_frame()
    if frame.width == 1:
        return RowBatch(frame.to_series().to_list(), times)
    return RowBatch(list(row_dicts(frame)), times)


def frame_of(batch: AnyBatch, schema: Schema, bad: list[RecordError]) -> FrameBatch:
    """A batch as a frame of these columns; rows that do not fit are appended to `bad` and left out."""
    if isinstance(batch, FrameBatch):
        return batch
    try:
        return _build(batch.values, batch.times, schema)
    except (pl.exceptions.PolarsError, TypeError, ValueError, KeyError, OverflowError, AttributeError):
        good: list[Any] = []
        times: list[int] = []
        for position, value in enumerate(batch.values):
            time = None if batch.times is None else [batch.times[position]]
            try:
                _build([value], time, schema)
            except (
                pl.exceptions.PolarsError,
                TypeError,
                ValueError,
                KeyError,
                OverflowError,
                AttributeError,
            ) as error:
                bad.append(
                    RecordError(
                        f"a value does not fit the columns {schema}: {error}",
                        record=value,
                        hint="correct the function, its return annotation or its schema=",
                    )
                )
                continue
            good.append(value)
            if time is not None:
                times += time
        return _build(good, times if batch.times is not None else None, schema)


def _build(values: Sequence[Any], times: Sequence[int] | None, schema: Schema) -> FrameBatch:
    fields = {name: (None if dtype == pl.Unknown() else dtype) for name, dtype in schema.items()}
    columns: dict[str, pl.Series] = {}
    first = next((value for value in values if value is not None), None)
    if first is None or isinstance(first, Mapping):
        for name, dtype in fields.items():
            columns[name] = _series(name, [value.get(name) for value in values], dtype)
    elif dataclasses.is_dataclass(first) or hasattr(first, "_fields"):
        for name, dtype in fields.items():
            columns[name] = _series(name, [getattr(value, name) for value in values], dtype)
    elif len(fields) == 1:
        ((name, dtype),) = fields.items()
        columns[name] = _series(name, list(values), dtype)
    elif isinstance(first, (tuple, list)):
        for index, (name, dtype) in enumerate(fields.items()):
            columns[name] = _series(name, [value[index] for value in values], dtype)
    else:
        raise TypeError(f"a {type(first).__name__} where a record of {len(fields)} columns was expected")
    if times is not None:
        columns[EVENT_TIME] = pl.Series(EVENT_TIME, times, dtype=pl.Int64).cast(EVENT_TIME_TYPE)
    return FrameBatch(pl.DataFrame(columns))


def _series(name: str, values: list[Any], dtype: pl.DataType | None) -> pl.Series:
    if dtype is None:
        return pl.Series(name, values, strict=False)
    return pl.Series(name, values, dtype=dtype, strict=True)
