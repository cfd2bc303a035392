"""`MapBatches`: a user's function from DataFrame to DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from streamflow.errors import JobDefinitionError, StreamflowError, cut
from streamflow.operators.base import Collector, Layout, Operator, OperatorContext, OperatorSpec, StreamType
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch
from streamflow.records.schema import EVENT_TIME, Schema

__all__ = ["MapBatches"]


@dataclass(frozen=True)
class MapBatches(OperatorSpec):
    """A function of a whole batch. Where batches begin and end is not defined: it must not matter to the function."""

    kind: ClassVar[str] = "map_batches"
    accepts: ClassVar[Layout] = Layout.FRAME
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
        except Exception as error:
            raise JobDefinitionError(
                f"the function failed on an empty frame: {type(error).__name__}: {cut(str(error))}",
                hint="give schema= so that it need not be tried, or make it accept no rows",
            ) from error
        self._check(after)
        columns = {name: dtype for name, dtype in after.schema.items() if name != EVENT_TIME}
        return StreamType(Schema(columns), EVENT_TIME in after.columns)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _MapBatchesOperator(self, self.output_type(inputs))

    def describe(self) -> str:
        return getattr(self.function, "__name__", "")

    def apply(self, frame: pl.DataFrame, expected: StreamType) -> pl.DataFrame:
        """The function on one frame, its result checked."""
        after = self.function(frame)
        self._check(after)
        if expected.timed and EVENT_TIME not in after.columns:
            raise StreamflowError(
                f"the function lost the column {EVENT_TIME}", hint="keep it: it is the event time"
            )
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
        out.emit(FrameBatch(self._spec.apply(batch.frame, self._output)))
