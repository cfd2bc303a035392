"""The join with a frame that does not change: a look-up for each batch alone, without state, in the read-ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE, EVENT_TIME, WATERMARK, Schema
from streamflow.core.stream_type import ChangeKind, StreamType
from streamflow.operators.contract.inputs import FRAMES, InputNeeds
from streamflow.operators.contract.operator import (
    BatchFunction,
    ByInput,
    Collector,
    OperatorContext,
    PureSpec,
)
from streamflow.operators.joins.inner_names import other_inside
from streamflow.operators.joins.matching import joined
from streamflow.operators.joins.sides import Columns, JoinSpec
from streamflow.operators.stateless.lone_halves import HALVES, ROW, judged, with_lone
from streamflow.state.frames.runs import Run
from streamflow.state.keyed.key_hashes import distinct_keys

__all__ = ["LookupJoin"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LookupJoin(JoinSpec, PureSpec):
    """A join with a frame; `how` is "inner", "left", "semi" or "anti". Event time, order and everything else stays.

    Of changes each row is looked up by itself, so an update may become a delete, an insert or both.
    """

    kind: ClassVar[str] = "lookup_join"
    takes: ClassVar[InputNeeds] = FRAMES
    frame: pl.DataFrame

    def needs(self, port: int) -> InputNeeds:
        return FRAMES

    def columns(self, inputs: Sequence[StreamType]) -> Columns:
        return Columns(self, [inputs[0], StreamType(Schema(self.frame.schema), timed=False)])

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        halves = HALVES if inputs[0].changes else frozenset[ChangeKind]()
        return StreamType(Schema(self._shown(inputs)), inputs[0].timed, halves)

    def state_signature(self, inputs: Sequence[StreamType]) -> None:  # type: ignore[override]
        return None

    def keeps_partitioning(self, keys: tuple[str, ...]) -> bool:
        return True

    def one_row_each(self, keys: tuple[str, ...], before: ByInput) -> bool | None:
        many = self.how not in ("semi", "anti") and self.frame[list(self.right_keys)].is_duplicated().any()
        return None if many else before(0, keys)

    def function(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> BatchFunction:
        columns = self.columns(inputs)
        keys, result, shown = columns.keys, list(columns.result), list(columns.shown)
        wanted = list(self._shown(inputs))
        table = columns.with_partner_possible(columns.rows(FrameBatch(self.frame), 1))
        left = inputs[0].schema
        assert isinstance(left, Schema)
        inner = other_inside(left)
        run = Run(table, 0)
        run.sort(keys)  # now, since several threads look keys up
        parted = bool(inputs[0].changes) and CHANGE in left
        one_each = self.how in ("semi", "anti") or not table[keys].is_duplicated().any()

        def join(batch: AnyBatch, out: Collector) -> None:
            assert isinstance(batch, FrameBatch)
            rows = batch.frame.rename(inner) if inner else batch.frame
            if parted:
                rows = rows.with_row_index(ROW) if one_each else with_lone(rows.lazy()).collect()
            near = run.rows_of(distinct_keys(rows, keys)[1], keys) if rows.height else None
            more = [name for name in (EVENT_TIME, WATERMARK, ROW) if name in rows.columns]
            ((some, port),) = joined(rows, table.clear() if near is None else near, keys, self.how)
            found = (some if port is None else columns.alone(some, 0))[[*result, *more]]
            found.columns = [*shown, *more]
            if ROW in more:
                found = judged(found)
            out.emit(FrameBatch(found[[*wanted, *(name for name in more if name != ROW)]]))

        return join

    def describe(self) -> str:
        return f"{super().describe()} with a frame of {self.frame.height:,} rows"

    def _shown(self, inputs: Sequence[StreamType]) -> dict[str, pl.DataType]:
        """The result's columns: the kind of change before all others, as every changing result has it."""
        shown = self.columns(inputs).shown
        return {CHANGE: shown[CHANGE]} | shown if inputs[0].changes and CHANGE in shown else shown
