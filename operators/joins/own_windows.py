"""The join by own windows that do not merge: rows wait for the end of their window, which each knows when it comes.

Windows may intersect, and rows of one moment are in one window: so a row waits once, in order of its window's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.python_times import shown_record
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.aggregates.partials import END, START
from streamflow.operators.contract.operator import Collector, Operator, OperatorContext
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.joins.sides import SIDES, TIMES, Columns, Late
from streamflow.operators.joins.window_pairs import WindowPairs
from streamflow.operators.windows.window_parts import count_in_no_window
from streamflow.operators.windows.window_rows import window_rows
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME
from streamflow.windows.own_assigner import WindowAssigner, assigned

__all__ = ["OwnWindowJoining", "in_own_windows"]


class OwnWindowJoining(Operator):
    """The logic of `WindowJoin` for own windows that do not merge, in one subtask."""

    def __init__(self, assigner: WindowAssigner, ctx: OperatorContext, columns: Columns) -> None:
        self._assigner = assigner
        self._columns = columns
        self._named: Callable[[int], str] = window_rows(assigner).named
        self._pairs = WindowPairs(columns)
        self._late = Late(columns, ctx.metrics)
        self._metrics = ctx.metrics
        owned = OwnedKeys(tuple(columns.keys), ctx.groups, ctx.max_parallelism)
        self._waiting = [
            TimeSorted(ctx.state, ctx.operator_id, ctx.memory_budget, owned, time=END, state=side)
            for side in SIDES
        ]
        self._watermark = MIN_TIME
        self._firing: Iterator[None] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        rows = in_own_windows(self._columns.rows(batch, port), port, self._assigner, self._metrics)
        late = rows[END] - 1 <= self._watermark
        if late.any():
            self._late.put_out(rows.filter(late), port, out)
            rows = rows.filter(~late)
        self._waiting[port].add(rows.drop(TIMES[port]))

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark > self._watermark:
            self._watermark = watermark
            self._firing = self._fired(out)
        if self._firing is not None:
            for _ in self._firing:
                return None
            self._firing = None
        return watermark

    def waiting(self) -> tuple[Waiting, ...]:
        ends = [end for each in self._waiting if (end := each.earliest()) is not None]
        rows = sum(map(len, self._waiting))
        return (Waiting(self._named(min(ends)), min(ends) - 1, rows),) if ends else ()

    @property
    def unfinished(self) -> bool:
        return self._firing is not None

    def work_at(self, watermark: int) -> int:
        return sum(each.rows_by(min(watermark, MAX_TIME - 1) + 1) for each in self._waiting)

    def snapshot(self) -> OperatorSnapshot:
        kept = {side: each.snapshot() for side, each in zip(SIDES, self._waiting, strict=True)}
        values = {"watermark": self._watermark, **{side: dict(each.values) for side, each in kept.items()}}
        tables = {name: table for each in kept.values() for name, table in each.tables.items()}
        return OperatorSnapshot(values, tables, tuple(self._columns.keys))

    def restore(self, parts: Sequence[StatePart]) -> None:
        for side, each in zip(SIDES, self._waiting, strict=True):
            each.restore([replace(part, values=part.values[side]) for part in parts])
        self._watermark = min(part.number("watermark") for part in parts)

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
