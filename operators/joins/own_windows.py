"""The join by own windows that do not merge: rows wait for the end of their window, which each knows when it comes.

Windows may intersect, and rows of one moment are in one window: so a row waits once, in order of its window's end.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.python_times import shown_record
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.aggregates.partials import END, START
from streamflow.operators.contract.operator import Collector, OperatorContext
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.joins.closing_rows import ClosingRows
from streamflow.operators.joins.sides import SIDES, TIMES, Columns
from streamflow.operators.windows.window_parts import count_in_no_window
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.time.timestamps import MAX_TIME
from streamflow.windows.own_assigner import WindowAssigner, assigned

__all__ = ["OwnWindowJoining", "in_own_windows"]


class OwnWindowJoining(ClosingRows):
    """The logic of `WindowJoin` for own windows that do not merge, in one subtask."""

    def __init__(self, assigner: WindowAssigner, ctx: OperatorContext, columns: Columns) -> None:
        super().__init__(assigner, ctx, columns)
        self._assigner = assigner
        self._waiting = [
            TimeSorted(ctx.state, ctx.operator_id, ctx.memory_budget, self._owned, time=END, state=side)
            for side in SIDES
        ]
        self._kept |= dict(zip(SIDES, self._waiting, strict=True))

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        rows = in_own_windows(self._columns.rows(batch, port), port, self._assigner, self._metrics)
        late = rows[END] - 1 <= self._watermark
        if late.any():
            self._late.put_out(rows.filter(late), port, out)
            rows = rows.filter(~late)
        self._waiting[port].add(rows.drop(TIMES[port]))

    def waiting(self) -> tuple[Waiting, ...]:
        ends = [end for each in self._waiting if (end := each.earliest()) is not None]
        rows = sum(map(len, self._waiting))
        return (Waiting(self._rules.named(min(ends)), min(ends) - 1, rows),) if ends else ()

    def work_at(self, watermark: int) -> int:
        return sum(each.rows_by(min(watermark, MAX_TIME - 1) + 1) for each in self._waiting)

    def _fired(self, out: Collector) -> Iterator[None]:
        """Emits the windows that are over by the watermark, some thousand rows of the larger side at a time."""
        until = min(self._watermark, MAX_TIME - 1) + 1
        large = int(len(self._waiting[1]) > len(self._waiting[0]))
        reached = until - 1
        while reached < until:
            rows, reached = self._waiting[large].take(until)
            others = [*self._waiting[1 - large].due(reached)]
            sides = rows, concatenated(others) if others else None
            self._pairs.emit(sides[large], sides[1 - large], out)
            yield


def in_own_windows(
    rows: pl.DataFrame, port: int, assigner: WindowAssigner, metrics: OperatorMetrics
) -> pl.DataFrame:
    """Rows of one side with START and END of their windows; those that are in none are counted."""
    starts, ends = assigned(assigner, rows[TIMES[port]], lambda place: shown_record(rows, place))
    rows = rows.hstack([starts.alias(START), ends.alias(END)])
    if not starts.has_nulls():
        return rows
    count_in_no_window(metrics, starts.null_count())
    return rows.filter(starts.is_not_null())
