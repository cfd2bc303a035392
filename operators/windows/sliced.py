"""Windows that are cut into slices: partial aggregates by (key, slice), and panes out of them when the watermark says
so.

A record is aggregated once, into its slice; a window's value merges its slices. Slices are kept in the pane store by
buckets of event time: one slide each while data is dense, more where a batch touches many, so that sparse data over a
long time does not cost a frame per window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import polars as pl

from streamflow.core.common_types import alike, concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME
from streamflow.operators.aggregates.partials import COUNT, END, SLICE, START
from streamflow.operators.contract.operator import LATE, Collector, Operator
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.windows.buckets import Buckets
from streamflow.operators.windows.closing_windows import ClosingWindows, in_windows
from streamflow.operators.windows.window_parts import WindowParts, count_in_no_window
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME
from streamflow.windows.slicing import Slices

__all__ = ["SlicedWindows"]

_ENOUGH_ROWS: Final = 500_000
"""The number of rows that are emitted at once, more if a single slice has more."""
_DENSE_ROWS: Final = 500
"""The number of partials per window above which windows are made one by one: no copy of a row per window it is in,
and a cheaper sort."""


class SlicedWindows(Operator):
    """The logic of `WindowAggregateSpec` for windows that are cut into slices, in one subtask."""

    def __init__(self, slicing: Slices, parts: WindowParts) -> None:
        self._slicing = slicing
        self._parts = parts
        self._keys = parts.keys
        self._plan = parts.plan
        self._lateness = parts.allowed_lateness
        self._buckets = Buckets(parts.store, slicing.width, slicing.offset)
        kept = 0 if parts.discarding else parts.allowed_lateness
        self._closing = ClosingWindows(slicing, self._buckets, kept=kept)
        self._watermark = MIN_TIME
        self._firing: Iterator[pl.DataFrame] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        frame = self._parts.checked(batch)
        running = self._watermark > MIN_TIME
        if running and not self._parts.partial_input and out.connected(LATE):
            frame = self._without_late(frame, out)
        if frame.is_empty():
            return
        partials = self._parts.partials(frame)
        if self._slicing.gaps:
            partials = self._in_some_window(partials)
        if running:
            partials = self._not_late(partials)
        if partials.is_empty():
            return
        self._buckets.append(partials)
        if running and self._lateness:
            self._fire_again(partials, out)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark > self._watermark:
            self._firing = self._fired(self._watermark, watermark)
            self._watermark = watermark
        rows = 0
        for windows in self._firing or ():
            self._parts.writer.write(windows, "ON_TIME", watermark, out)
            rows += windows.height
            if rows >= _ENOUGH_ROWS:
                return self._held(watermark)
        self._firing = None
        self._closing.drop(watermark)
        self._parts.writer.clean_up(watermark)
        return self._held(watermark)

    def work_at(self, watermark: int) -> int:
        return self._closing.work_at(self._watermark, watermark)

    def waiting(self) -> tuple[Waiting, ...]:
        return self._closing.waiting(self._watermark)

    @property
    def unfinished(self) -> bool:
        return self._firing is not None

    def snapshot(self) -> OperatorSnapshot:
        return self._parts.snapshot({"watermark": self._watermark, "buckets": self._buckets.snapshot()})

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._parts.restore(parts)
        self._buckets.restore([part.values["buckets"] for part in parts])
        self._watermark = min(part.number("watermark") for part in parts)

    def _held(self, watermark: int) -> int:
        """The watermark of the output: no later result has an earlier time. A window's records may have any time from
        its start on."""
        if not self._parts.times or watermark >= MAX_TIME:
            return watermark
        return min(watermark, self._slicing.start_of(self._slicing.end_after(watermark + 1)) - 1)

    def _without_late(self, frame: pl.DataFrame, out: Collector) -> pl.DataFrame:
        """The records that are not late for all of their windows; the others go to the late output, whole."""
        times = frame[EVENT_TIME].cast(pl.Int64)
        bound = self._watermark - self._lateness
        if frame.is_empty() or int(times.min()) > bound:  # type: ignore[arg-type]
            return frame
        slices = self._slicing.start(times)
        ends = self._slicing.last_end(slices)
        late = (ends - 1 <= bound) & (ends > slices)
        if not late.any():
            return frame
        out.emit_to(LATE, FrameBatch(frame.filter(late)))
        return frame.filter(~late)

    def _not_late(self, partials: pl.DataFrame) -> pl.DataFrame:
        """The partials of slices that are not late for all of their windows; the records of the others are counted."""
        slices = partials[SLICE]
        bound = self._watermark - self._lateness
        if partials.is_empty() or self._slicing.last_end(int(slices.min())) - 1 > bound:  # type: ignore[arg-type]
            return partials
        late = self._slicing.last_end(slices) - 1 <= bound
        self._parts.metrics.late_dropped.add(int(partials.filter(late)[COUNT].sum()))
        return partials.filter(~late)

    def _in_some_window(self, partials: pl.DataFrame) -> pl.DataFrame:
        """The partials of slices that lie in a window; the records of the others are counted."""
        slices = partials[SLICE]
        gap = self._slicing.last_end(slices) <= slices
        if not gap.any():
            return partials
        count_in_no_window(self._parts.metrics, int(partials.filter(gap)[COUNT].sum()))
        return partials.filter(~gap)

    def _fired(self, previous: int, watermark: int) -> Iterator[pl.DataFrame]:
        """The results of all windows whose last moment lies in (previous, watermark]."""
        for end, until, (read,) in self._closing.closed_by(previous, watermark):
            for rows in self._parts.store.in_slices(*read):
                data = self._between(rows, read, self._slicing.start_of(end), until)
                yield from self._windows(data, self._slicing.ends(end, until))

    def _between(self, data: pl.DataFrame, buckets: Sequence[int], low: int, high: int) -> pl.DataFrame:
        """The partials of slices in [low, high); one per key and slice where windows are slices."""
        spans = [self._buckets.spans[bucket] for bucket in buckets]
        if spans[0].low < low or max(span.high for span in spans) >= high:
            data = data.filter(pl.col(SLICE).is_between(low, high, closed="left"))
        # Buckets of different widths may hold the same slice.
        overlap = any(one.high >= other.low for one, other in pairwise(spans))
        if overlap and self._slicing.per_slice == 1:
            return self._plan.merge(data, [*self._keys, SLICE])
        return data

    def _windows(self, data: pl.DataFrame, ends: Sequence[int]) -> Iterator[pl.DataFrame]:
        """Results (keys, START, END, values) of the windows with these ends, in window order."""
        slicing, count = self._slicing, len(ends)
        if data.is_empty():
            return
        if data.height >= count * _DENSE_ROWS:
            for end in ends:
                start = slicing.start_of(end)
                window = (
                    data.filter(pl.col(SLICE).is_between(start, end, closed="left")) if count > 1 else data
                )
                if not window.is_empty():
                    merged = self._plan.merge(window, self._keys) if slicing.per_slice > 1 else window
                    bounds = _time(start).alias(START), _time(end).alias(END)
                    yield self._plan.results(merged, [*self._keys, *bounds, *self._parts.times])
            return
        exploded = in_windows(data, slicing, ends)
        if slicing.per_slice > 1:
            exploded = self._plan.merge(exploded, [*self._keys, END])
        if not exploded.is_empty():
            yield self._results(exploded)

    def _results(self, windows: pl.DataFrame) -> pl.DataFrame:
        """Results out of one row for each key and END."""
        starts = self._slicing.start_of(windows[END]).alias(START)
        leading = [*self._keys, START, END, *self._parts.times]
        return self._plan.results(windows.hstack([starts]), leading)

    def _fire_again(self, partials: pl.DataFrame, out: Collector) -> None:
        """Fires late but allowed windows: emits another pane for each key and window that has fired and got new
        records."""
        slicing, watermark = self._slicing, self._watermark
        slices = partials[SLICE]
        earliest = int(slices.min())  # type: ignore[arg-type]
        if slicing.end_after(earliest) - 1 > watermark:
            return
        end = slicing.end_after(max(watermark - self._lateness + 1, earliest))
        last = slicing.end_until(min(watermark + 1, slicing.last_end(int(slices.max()))))  # type: ignore[arg-type]
        fresh = in_windows(partials, slicing, slicing.ends(end, last)) if end <= last else partials.clear()
        if fresh.is_empty():
            return
        window = [*self._keys, END]
        if self._parts.discarding:
            merged = self._plan.merge(fresh, window)
        else:
            touched = fresh[window]
            first, last = int(touched[END].min()), int(touched[END].max())  # type: ignore[arg-type]
            low, spans = slicing.start_of(first), self._buckets.spans.items()
            read = [bucket for bucket, span in spans if span.low < last and span.high >= low]
            found = [rows for bucket in read if (rows := self._buckets.look_up(bucket, touched)) is not None]
            merged = in_windows(concatenated(found), slicing, slicing.ends(first, last))
            if first < last:
                merged, touched = alike(merged, touched, self._keys)
                merged = merged.join(touched, on=window, how="semi", nulls_equal=True)
            if slicing.per_slice > 1 or len(found) > 1:
                merged = self._plan.merge(merged, window)
        self._parts.writer.write(self._results(merged), "LATE", watermark, out, again=True)


def _time(micros: int) -> pl.Expr:
    return pl.lit(micros, pl.Int64)
