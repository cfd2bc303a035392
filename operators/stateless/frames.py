"""`MapBatches`: a user's function from DataFrame to DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, WATERMARK, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError, StreamflowError, Where
from streamflow.operators.contract.inputs import FRAMES, InputNeeds
from streamflow.operators.contract.operator import (
    Collector,
    Layout,
    OnChanges,
    Operator,
    OperatorContext,
    OperatorSpec,
)
from streamflow.time.timestamps import EARLIEST, LATEST
from streamflow.user_code import described, line_of_definition, line_of_error, raised_by_user
from streamflow.windows.aggregate import is_known

__all__ = ["MapBatches"]


@dataclass(frozen=True)
class MapBatches(OperatorSpec):
    """A function of a whole batch. The bounds of batches are not defined: they must not matter to the function."""

    kind: ClassVar[str] = "map_batches"
    on_changes: ClassVar[OnChanges] = "pass"
    takes: ClassVar[InputNeeds] = FRAMES
    emits: ClassVar[Layout] = Layout.FRAME
    function: Callable[[pl.DataFrame], pl.DataFrame]
    schema: Schema | None = None

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        before = inputs[0]
        if not isinstance(before.schema, Schema):
            raise JobDefinitionError("map_batches needs columns, and this stream holds Python objects")
        if self.schema is not None:
            return StreamType(self.schema, before.timed)
        try:
            after = self.function(before.schema.empty(timed=before.timed))
        except BaseException as raised:
            cause = raised_by_user(raised)
            raise JobDefinitionError(
                f"the function failed on an empty frame: {described(cause)}",
                where=Where(code=line_of_error(cause)),
                hint="give schema= so that it need not be tried, or make it accept no rows",
            ) from raised
        self._check(after)
        columns = {name: dtype for name, dtype in after.schema.items() if name != EVENT_TIME}
        return StreamType(Schema(columns), EVENT_TIME in after.columns)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _MapBatchesOperator(self, self.output_type(inputs))

    def describe(self) -> str:
        return getattr(self.function, "__name__", "")

    def apply(self, frame: pl.DataFrame, expected: StreamType) -> pl.DataFrame:
        """The function's result for one frame, checked."""
        after = self.function(frame)
        self._check(after)
        if expected.timed and EVENT_TIME not in after.columns:
            raise StreamflowError(
                f"the function lost the column {EVENT_TIME}", hint="keep it: it is the event time"
            )
        assert isinstance(expected.schema, Schema)
        names, types = list(expected.schema), list(expected.schema.values())
        if expected.timed:
            names, types = [*names, EVENT_TIME], [*types, EVENT_TIME_TYPE]
        if after.columns != names or after.dtypes != types:
            after = self._fitted(after, expected.schema.empty(timed=expected.timed))
        if expected.timed:
            self._check_times(after[EVENT_TIME])
        return after

    def _check_times(self, times: pl.Series) -> None:
        micros = times.cast(pl.Int64)
        low, high = micros.min(), micros.max()
        beyond = low is not None and not EARLIEST <= low <= high <= LATEST  # type: ignore[operator]
        if beyond or micros.has_nulls():
            raise StreamflowError(
                f"the function gave {EVENT_TIME!r} as null, or beyond the years 1 to 9999",
                where=Where(code=line_of_definition(self.function)),
                hint="give each record a time",
            )

    def _fitted(self, after: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
        """The function's result in the stream's columns; raises StreamflowError if a value would change."""
        where = Where(code=line_of_definition(self.function))
        hint = "give the same columns for every batch, and give them in schema= if an empty frame does not show them"
        for given, known, what in (
            (wanted.columns, after.columns, "gave no column"),
            (after.columns, wanted.columns, "gave a column that the stream does not have:"),
        ):
            if others := [name for name in given if name not in known]:
                raise StreamflowError(f"the function {what} {others[0]!r}", where=where, hint=hint)
        after = after.select(wanted.columns)
        for name, dtype in wanted.schema.items():
            if not is_known(dtype):
                continue  # its type shows only when the job runs
            try:
                column = concatenated([wanted.select(name), after.select(name)])[name]
            except RecordError:
                column = after[name]
            if column.dtype != dtype:
                raise StreamflowError(
                    f"the function gave {name!r} as {after.schema[name]}, not {dtype}", where=where, hint=hint
                )
            after = after.with_columns(column)
        return after

    def _check(self, after: object) -> None:
        if not isinstance(after, pl.DataFrame):
            raise JobDefinitionError(
                f"the function returned a {type(after).__name__}", hint="return a DataFrame"
            )


class _MapBatchesOperator(Operator):
    def __init__(self, spec: MapBatches, output: StreamType) -> None:
        self._spec = spec
        self._output = output

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        made = self._spec.apply(batch.unmarked().frame, self._output)
        if batch.marked and self._output.timed and made.height:
            made = made.with_columns(_marks(batch.frame, made[EVENT_TIME]))
        out.emit(FrameBatch(made))


def _marks(records: pl.DataFrame, times: pl.Series) -> pl.Series:
    """The watermark before each record that a function made of these: that of the first record of its time, if there
    is one."""
    if times.equals(records[EVENT_TIME]):
        return records[WATERMARK]
    of_time = records.select(EVENT_TIME, WATERMARK).unique(EVENT_TIME, keep="first")
    joined = times.to_frame().join(of_time, on=EVENT_TIME, how="left", maintain_order="left")
    least = records[WATERMARK].to_physical().min()
    marks = joined[WATERMARK].to_physical().fill_null(least).cum_max()
    return marks.cast(EVENT_TIME_TYPE).alias(WATERMARK)
