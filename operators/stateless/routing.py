"""Operators that only route: `Union` of streams of one type, `SplitBy` into named side outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.operators.contract.error_policy import DEAD_LETTER_TYPE, Guard
from streamflow.operators.contract.inputs import FRAMES, InputNeeds
from streamflow.operators.contract.operator import (
    ERRORS,
    BatchFunction,
    Collector,
    ErrorPolicy,
    Layout,
    OperatorContext,
    PureSpec,
    own_output,
)
from streamflow.operators.stateless.columns import checked_type
from streamflow.operators.stateless.lone_halves import HALVES, ROW, judged

__all__ = ["SplitBy", "Union"]

_CHOSEN: Final = "\x1achosen"


@dataclass(frozen=True)
class Union(PureSpec):
    """All records of several streams; their columns must be the same."""

    kind: ClassVar[str] = "union"

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        first = inputs[0]
        for other in inputs[1:]:
            if other.timed != first.timed:
                raise JobDefinitionError(
                    "one stream of the union has event time and another has none",
                    hint="read each with event_time=, or none",
                )
            if bool(other.changes) != bool(first.changes):
                raise JobDefinitionError(
                    "one stream of the union holds changes of a result and another holds records",
                    hint="bring totals and retracting windows together with their like only",
                )
            if not _same(first, other):
                raise JobDefinitionError(
                    f"the streams of a union differ: {first.schema} and {other.schema}",
                    hint="bring them to the same columns with select() first",
                )
        return first

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        def run(batch: AnyBatch, out: Collector) -> None:
            out.emit(batch)

        return run


def _same(left: StreamType, right: StreamType) -> bool:
    if isinstance(left.schema, Schema) and isinstance(right.schema, Schema):
        return list(left.schema.items()) == list(right.schema.items())
    return left.schema is right.schema


def _with_column(column: pl.Expr, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(column)


@dataclass(frozen=True, eq=False)
class SplitBy(PureSpec):
    """Sends each row to the first branch whose expression is true; the rest stays on the main output."""

    kind: ClassVar[str] = "split"
    takes: ClassVar[InputNeeds] = FRAMES
    emits: ClassVar[Layout] = Layout.FRAME
    branches: tuple[tuple[str, pl.Expr], ...] = ()
    on_error: ErrorPolicy = "fail"

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        for name, predicate in self.branches:
            made = checked_type(inputs[0], predicate.alias("predicate"))
            if made["predicate"] not in (pl.Boolean(), pl.Unknown()):
                raise JobDefinitionError(f"branch {name!r} needs a yes or no for each row: {predicate}")
        return self._parted(inputs[0])

    def side_type(self, output: str, inputs: Sequence[StreamType]) -> StreamType:
        return DEAD_LETTER_TYPE if output == ERRORS else self._parted(inputs[0])

    def _parted(self, whole: StreamType) -> StreamType:
        """The type of each branch: the halves of an update may be in two."""
        return replace(whole, changes=whole.changes | HALVES) if whole.changes else whole

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        guard = Guard(ctx.operator_id, self.on_error, ctx.metrics)
        changing = bool(inputs[0].changes)

        def branch(rows: pl.DataFrame) -> FrameBatch:
            rows = rows.drop(_CHOSEN, strict=False)
            return FrameBatch(judged(rows) if ROW in rows.columns else rows)

        def run(batch: AnyBatch, out: Collector) -> None:
            assert isinstance(batch, FrameBatch)
            rest = batch.frame
            if changing and CHANGE in rest.columns:
                rest = rest.with_row_index(ROW)
            for name, predicate in self.branches:
                choice = predicate.fill_null(False).alias(_CHOSEN)
                rest = guard.frame(rest, partial(_with_column, choice), out)
                taken = rest.filter(_CHOSEN)
                if taken.height:
                    out.emit_to(own_output(name), branch(taken))
                rest = rest.filter(~pl.col(_CHOSEN)).drop(_CHOSEN)
            out.emit(branch(rest))

        return run

    def describe(self) -> str:
        return ", ".join(f"{name}: {predicate}" for name, predicate in self.branches)
