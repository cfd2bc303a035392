"""`Extract`: keys and aggregate inputs that are Python functions, evaluated once into columns.

From there on the work is vectorised. What reads the columns decides what they mean; here they are only made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from streamflow.operators.rows import rows_of
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
        rows = rows_of(batch)
        values, times = rows.values, rows.times
        frame = batch.frame if isinstance(batch, FrameBatch) else None
        try:
            columns = [self._series(name, list(map(function, values))) for name, function in self._columns]
        except Exception:  # noqa: BLE001 — whatever a user's code raises is the record's error
            keep, bad = self._sift(values)
            self._guard.bad(bad, out)
            values = [values[i] for i in keep]
            times = None if times is None else [times[i] for i in keep]
            frame = None if frame is None else frame[keep]
            columns = [self._series(name, list(map(function, values))) for name, function in self._columns]
        if frame is not None:
            out.emit(FrameBatch(frame.with_columns(columns)))
            return
        if times is not None:
            columns.append(pl.Series(EVENT_TIME, times, dtype=pl.Int64).cast(EVENT_TIME_TYPE))
        out.emit(FrameBatch(pl.DataFrame(columns)))

    def _sift(self, values: Sequence[Any]) -> tuple[list[int], list[RecordError]]:
        keep: list[int] = []
        bad: list[RecordError] = []
        for index, value in enumerate(values):
            try:
                for name, function in self._columns:
                    self._series(name, [function(value)])
            except Exception as cause:  # noqa: BLE001 — whatever a user's code raises is the record's error
                error = self._guard.error(cause, value)
                error.__cause__ = cause
                bad.append(error)
            else:
                keep.append(index)
        return keep, bad

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
