"""Count windows: every so many records of a key, in the order of event time.

Records wait until the watermark has passed them, so that it does not matter in which order they came. Then each has a
position among those of its key, and windows are stretches of positions, cut into slices like stretches of time: a
record is aggregated once. The rest of a key's records, when the input ends, is a last and smaller window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME
from streamflow.operators.aggregates.combiner import RECORD_SLICE
from streamflow.operators.aggregates.partials import COUNT, END, FIRST, LAST, SLICE, START
from streamflow.operators.contract.operator import LATE, Collector, Operator
from streamflow.operators.contract.waiting import Waiting, earliest
from streamflow.operators.windows.window_parts import WindowParts
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import LATEST, MAX_TIME, MIN_TIME, format_time
from streamflow.windows.slicing import Slicing

__all__ = ["CountWindows"]

_PANE: Final = 0
_STEP: Final = "__step"
"""The number of records that a row stands for; after summing up, the position behind it."""
_BEFORE: Final = "__before"
"""The number of records that a key had before."""
_TOTAL: Final = "__total"
"""The number of records that a key has."""


class CountWindows(Operator):
    """The logic of `WindowAggregateSpec` for count windows in one subtask. `slicing` is that of positions."""

    def __init__(self, slicing: Slicing, parts: WindowParts, waiting: TimeSorted) -> None:
        self._slicing = slicing
        self._parts = parts
        self._keys = parts.keys
        self._waiting = waiting
        self._watermark = MIN_TIME
        self._firing: Iterator[None] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        frame = self._parts.checked(batch.unmarked())
        late = frame[EVENT_TIME].cast(pl.Int64) <= self._watermark
        if late.any():
            if out.connected(LATE):
                out.emit_to(LATE, FrameBatch(frame.filter(late)))
            else:
                self._parts.metrics.late_dropped.add(int(late.sum()))
            frame = frame.filter(~late)
        self._waiting.add(frame)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if self._firing is None and watermark > self._watermark:
            self._firing = self._fired(watermark, out)
        for _ in self._firing or ():
            return watermark
        self._firing = None
        self._watermark = max(watermark, self._watermark)
        return watermark

    @property
    def unfinished(self) -> bool:
        return self._firing is not None

    def work_at(self, watermark: int) -> int:
        return self._waiting.rows_by(watermark)

    def waiting(self) -> tuple[Waiting, ...]:
        first, open_ = self._waiting.earliest(), self._parts.store.rows
        return earliest(
            None
            if first is None
            else Waiting(f"the record of {format_time(first)}, to be counted", first, len(self._waiting)),
            Waiting("the windows that are not full", MAX_TIME, open_) if open_ else None,
        )

    def snapshot(self) -> OperatorSnapshot:
        waiting = self._waiting.snapshot()
        return self._parts.snapshot({"watermark": self._watermark, **waiting.values}, waiting.tables)

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._parts.restore(parts)
        self._waiting.restore(parts)
        self._watermark = min(part.number("watermark") for part in parts)

    def _fired(self, watermark: int, out: Collector) -> Iterator[None]:
        """Counts the records that the watermark has passed, and emits the windows that are full; pauses after each
        portion."""
        for records in self._waiting.due(watermark):
            self._count(records, watermark, out)
            yield
        store = self._parts.store
        if watermark >= MAX_TIME and _PANE in store:
            for rows in store.in_slices(_PANE):
                self._emit(self._left(rows), watermark, out)
                yield
            store.drop(_PANE)

    def _count(self, records: pl.DataFrame, watermark: int, out: Collector) -> None:
        """Adds records in order; emits the windows that become full."""
        keys, slicing, store = self._keys, self._slicing, self._parts.store
        old = store.look_up(_PANE, records[keys])
        position = _positions(records[keys], old, keys)
        cut = slicing.start(position).alias(RECORD_SLICE)
        new = self._parts.plan.partial(records.hstack([cut]), self._parts.groups)
        rows = new.with_columns(pl.lit(0, pl.Int64).alias(_BEFORE))
        if old is not None:
            store.remove(_PANE, old)
            rows = concatenated([old.with_columns((pl.col(SLICE) + pl.col(COUNT)).alias(_BEFORE)), rows])
        rows = self._parts.plan.merge(rows, [*keys, SLICE], [pl.col(_BEFORE).max()])
        total = (pl.col(SLICE) + pl.col(COUNT)).max().over(keys).alias(_TOTAL)
        rows = rows.with_columns(total, pl.col(_BEFORE).max().over(keys))
        full: list[pl.DataFrame] = []
        for number in range(slicing.per_slice):
            end = slicing.nth_end(rows[SLICE], number)
            holds = (slicing.start_of(end) <= rows[SLICE]) & (end > rows[SLICE])
            ends = holds & (end > rows[_BEFORE]) & (end <= rows[_TOTAL])
            full.append(rows.hstack([end.alias(END)]).filter(ends))
        self._emit(concatenated(full), watermark, out)
        open_ = rows.filter(slicing.last_end(rows[SLICE]) > rows[_TOTAL]).drop(_BEFORE, _TOTAL)
        if not open_.is_empty():
            store.append(_PANE, open_)

    def _left(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The windows that the keys have begun and not filled, out of all that is kept of them."""
        total = (pl.col(SLICE) + pl.col(COUNT)).max().over(self._keys)
        rows = rows.with_columns(total.alias(_TOTAL))
        end = self._slicing.end_after(rows[_TOTAL] - 1)
        begun = (end > rows[_TOTAL]) & (self._slicing.start_of(end) <= rows[SLICE])
        return rows.hstack([end.alias(END)]).filter(begun)

    def _emit(self, rows: pl.DataFrame, watermark: int, out: Collector) -> None:
        """Emits the windows whose slices these are, by END."""
        if rows.is_empty():
            return
        keys = self._keys
        windows = self._parts.plan.merge(rows, [*keys, END])
        # What is left at the end of the input may be older than what has been said to be over.
        time = pl.col(LAST).clip(lower_bound=min(self._watermark + 1, LATEST)).alias(LAST)
        bounds = [pl.col(FIRST).alias(START), (pl.col(LAST) + 1).alias(END)]
        self._parts.writer.write(
            self._parts.plan.results(windows, [*keys, *bounds, time]), "ON_TIME", watermark, out
        )


def _positions(records: pl.DataFrame, old: pl.DataFrame | None, keys: list[str]) -> pl.Series:
    """The position of each record among those of its key, from 0, behind the ones that are kept."""
    steps = records.with_columns(pl.lit(1, pl.Int64).alias(_STEP))
    if old is not None:
        kept = old.group_by(keys).agg((pl.col(SLICE) + pl.col(COUNT)).max().alias(_STEP))
        steps = concatenated([kept, steps])
    return steps.select(pl.col(_STEP).cum_sum().over(keys) - 1).to_series()[-records.height :]
