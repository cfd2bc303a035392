"""`Extract`: keys and aggregate inputs that are Python functions, evaluated once into columns.

From there on the work is vectorised. What reads the columns decides what they mean; here they are only made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from streamflow.errors import JobDefinitionError, RecordError
from streamflow.operators.base import (
    Collector,
    ErrorPolicy,
    Layout,
    Operator,
    OperatorContext,
    OperatorSpec,
    StreamType,
)
from streamflow.operators.functions import returned_schema
from streamflow.operators.guard import DEAD_LETTER_TYPE, Guard
from streamflow.operators.row_builder import row_dicts
from streamflow.records.batch import RowBatch
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch
from streamflow.records.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema

__all__ = ["Extract"]

_UNKNOWN = pl.Unknown()


@dataclass(frozen=True)
class Extract(OperatorSpec):
    """Columns made by functions of one row: beside a frame's own, or alone for a stream of objects."""

    kind: ClassVar[str] = "extract"
    emits: ClassVar[Layout] = Layout.FRAME
    columns: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    on_error: ErrorPolicy = "fail"

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        before = inputs[0]
        fields: dict[str, pl.DataType] = dict(before.schema) if isinstance(before.schema, Schema) else {}
        for name, function in self.columns:
            schema = returned_schema(function)
            single = isinstance(schema, Schema) and list(schema) == ["value"]
            fields[name] = schema["value"] if isinstance(schema, Schema) and single else _UNKNOWN
        return StreamType(Schema(fields), before.timed)

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        output = self.output_type(inputs).schema
        assert isinstance(output, Schema)
        return _ExtractOperator(self, output, Guard(ctx.operator_id, self.on_error, ctx.metrics))

    def describe(self) -> str:
        return ", ".join(name for name, _ in self.columns)


class _ExtractOperator(Operator):
    def __init__(self, spec: Extract, output: Schema, guard: Guard) -> None:
        self._columns = spec.columns
        self._types = {name: None if output[name] == _UNKNOWN else output[name] for name, _ in spec.columns}
        self._guard = guard

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        results, failed = self._evaluate(batch)
        if failed:
            self._guard.bad(list(failed.values()), out)
        try:
            columns = [
                self._series(name, values) for (name, _), values in zip(self._columns, results, strict=True)
            ]
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError, JobDefinitionError):
            misfits = self._misfits(batch, results, failed)
            self._guard.bad(list(misfits.values()), out)
            failed |= misfits
            results = [[None if i in misfits else v for i, v in enumerate(values)] for values in results]
            columns = [
                self._series(name, values) for (name, _), values in zip(self._columns, results, strict=True)
            ]
        if isinstance(batch, FrameBatch):
            frame = batch.frame.with_columns(columns)
        else:
            if batch.times is not None:
                columns.append(pl.Series(EVENT_TIME, batch.times, dtype=pl.Int64).cast(EVENT_TIME_TYPE))
            frame = pl.DataFrame(columns)
        if failed:
            frame = frame.filter(
                pl.Series([index not in failed for index in range(len(batch))], dtype=pl.Boolean)
            )
        out.emit(FrameBatch(frame))

    def _evaluate(self, batch: AnyBatch) -> tuple[list[list[Any]], dict[int, RecordError]]:
        """Each function's value for each row (None where one raised), and the errors by row."""
        rows = _rows(batch)
        results: list[list[Any]] = [[] for _ in self._columns]
        calls = [
            (function, values.append) for (_, function), values in zip(self._columns, results, strict=True)
        ]
        failed: dict[int, RecordError] = {}
        last = results[-1]
        for row in rows:
            try:
                for function, append in calls:
                    append(function(row))
            except Exception as cause:  # noqa: BLE001 — whatever a user's code raises is the record's error
                index = len(last)
                failed[index] = error = self._guard.error(cause, row)
                error.__cause__ = cause
                for values in results:
                    del values[index:]
                    values.append(None)
        return results, failed

    def _misfits(
        self, batch: AnyBatch, results: list[list[Any]], failed: dict[int, RecordError]
    ) -> dict[int, RecordError]:
        """The rows whose values no column can hold, or not the column that was promised."""
        misfits: dict[int, RecordError] = {}
        for index, row in enumerate(_rows(batch)):
            try:
                for (name, _), values in zip(self._columns, results, strict=True):
                    self._series(name, [values[index]])
            except (
                TypeError,
                ValueError,
                OverflowError,
                pl.exceptions.PolarsError,
                JobDefinitionError,
            ) as cause:
                if index not in failed:
                    misfits[index] = self._guard.error(cause, row)
        if not misfits:
            raise JobDefinitionError(
                f"the functions for {', '.join(name for name, _ in self._columns)} return values of different types",
                hint="return one type, or annotate what they return",
            )
        return misfits

    def _series(self, name: str, values: list[Any]) -> pl.Series:
        dtype = self._types[name]
        try:
            series = pl.Series(name, values, dtype=dtype, strict=True)
        except TypeError:
            if dtype is not None:
                raise
            # Integers and floats side by side are numbers; anything else mixed is a mistake worth showing.
            series = pl.Series(name, values, dtype=pl.Float64, strict=True)
        if series.dtype == pl.Object():
            raise JobDefinitionError(
                f"the function for {name!r} returned a {type(values[0]).__name__}",
                hint="return a string, number, boolean, date, time, bytes or a list of one",
            )
        return series


def _rows(batch: AnyBatch) -> Iterable[Any]:
    """The rows as functions see them; a frame's are made one at a time."""
    if isinstance(batch, RowBatch):
        return batch.values
    frame = batch.user_frame()
    return frame.to_series().to_list() if frame.width == 1 else row_dicts(frame)
