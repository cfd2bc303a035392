"""The join with a frame that does not change: a look-up for each batch alone, without state, in the read-ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, WATERMARK, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.inputs import FRAMES, InputNeeds
from streamflow.operators.contract.operator import BatchFunction, Collector, OperatorContext, PureSpec
from streamflow.operators.joins.inner_names import other_inside
from streamflow.operators.joins.matching import joined
from streamflow.operators.joins.sides import Columns, JoinSpec
from streamflow.state.frames.runs import Run
from streamflow.state.keyed.key_hashes import distinct_keys

__all__ = ["LookupJoin"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LookupJoin(JoinSpec, PureSpec):
    """A join with a frame; `how` is "inner", "left", "semi" or "anti". Event time and everything else stays."""

    kind: ClassVar[str] = "lookup_join"
    takes: ClassVar[InputNeeds] = FRAMES
    frame: pl.DataFrame

    def needs(self, port: int) -> InputNeeds:
        return FRAMES

    def columns(self, inputs: Sequence[StreamType]) -> Columns:
        return Columns(self, [inputs[0], StreamType(Schema(self.frame.schema), timed=False)])

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return StreamType(Schema(self.columns(inputs).shown), inputs[0].timed)

    def state_signature(self, inputs: Sequence[StreamType]) -> None:  # type: ignore[override]
        return None

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        return True

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        columns = self.columns(inputs)
        keys, result, shown = columns.keys, list(columns.result), list(columns.shown)
        table = columns.with_partner_possible(columns.rows(FrameBatch(self.frame), 1))
        left = inputs[0].schema
        assert isinstance(left, Schema)
        inner = other_inside(left)
        run = Run(table, 0)
        run.sort(keys)  # now, since several threads look keys up

        def join(batch: AnyBatch, out: Collector) -> None:
            assert isinstance(batch, FrameBatch)
            rows = batch.frame.rename(inner) if inner else batch.frame
            near = run.rows_of(distinct_keys(rows, keys)[1], keys) if rows.height else None
            times = [name for name in (EVENT_TIME, WATERMARK) if name in rows.columns]
            found = joined(rows, table.clear() if near is None else near, keys, self.how)
            whole = [some if port is None else columns.alone(some, 0) for some, port in found]
            together = pl.concat([some[[*result, *times]] for some in whole])
            together.columns = [*shown, *times]
            out.emit(FrameBatch(together))

        return join

    def describe(self) -> str:
        return f"{super().describe()} with a frame of {self.frame.height:,} rows"
