"""The window join: pairs of rows with equal keys in the same window of event time, when the window closes.

Rows of both sides wait in slices, as records of an aggregate do; a row is stored once, whatever size and slide are. A
closing window joins its slices. Those that merge are in `merging_windows`, other own ones in `own_windows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.stream_type import StreamType
from streamflow.operators.aggregates.partials import SLICE
from streamflow.operators.contract.operator import Collector, Operator, OperatorContext
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.joins.merging_windows import MergingAssigner, MergingJoining
from streamflow.operators.joins.own_windows import OwnWindowJoining
from streamflow.operators.joins.sides import SIDES, TIMES, Columns, JoinSpec, Late
from streamflow.operators.joins.window_pairs import WindowPairs
from streamflow.operators.windows.buckets import Buckets
from streamflow.operators.windows.closing_windows import ClosingWindows, in_windows
from streamflow.operators.windows.emission import WINDOW_COLUMNS
from streamflow.operators.windows.window_parts import count_in_no_window
from streamflow.state.frames.merging import as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MIN_TIME
from streamflow.windows.assigners import Session
from streamflow.windows.own_assigner import WindowAssigner
from streamflow.windows.slicing import SlicedAssigner, slices_of

__all__ = ["WindowJoin"]

_AT_ONCE: Final = 50_000
"""The number of rows whose windows are joined at once, if windows are that small: there may be many pairs of them."""


@dataclass(frozen=True, kw_only=True)
class WindowJoin(JoinSpec):
    """A join of two streams with event time, window by window; event time is the window's last moment."""

    kind: ClassVar[str] = "window_join"
    between: ClassVar[Mapping[str, pl.DataType]] = WINDOW_COLUMNS
    assigner: SlicedAssigner | MergingAssigner

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        self.check_timed(inputs, "a join by window")
        return super().output_type(inputs)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        match self.assigner:
            case WindowAssigner(merging=False) as assigner:
                return OwnWindowJoining(assigner, ctx, self.columns(inputs))
            case Session() | WindowAssigner() as assigner:
                return MergingJoining(assigner, ctx, self.columns(inputs))
            case assigner:
                return _SlicedJoining(assigner, ctx, self.columns(inputs))

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        window: dict[str, Any] = {"window": str(self.assigner)}
        if isinstance(self.assigner, WindowAssigner) and not self.assigner.merging:
            window["merging"] = False
        return {**super().state_signature(inputs), **window}

    def describe(self) -> str:
        return f"{super().describe()} in {self.assigner}; keeps rows until their windows close"


class _SlicedJoining(Operator):
    """The logic of `WindowJoin` for windows that are cut into slices, in one subtask."""

    def __init__(self, assigner: SlicedAssigner, ctx: OperatorContext, columns: Columns) -> None:
        self._columns = columns
        self._slicing = slicing = slices_of(assigner)
        self._pairs = WindowPairs(columns, slicing.start_of)
        self._late = Late(columns, ctx.metrics)
        self._metrics = ctx.metrics
        owned = OwnedKeys(tuple(columns.keys), ctx.groups, ctx.max_parallelism)
        self._stores = [
            FrameStore(ctx.state, ctx.operator_id, as_they_are, ctx.memory_budget, owned, state=side)
            for side in SIDES
        ]
        self._buckets = [Buckets(store, slicing.width, slicing.offset) for store in self._stores]
        self._closing = ClosingWindows(slicing, *self._buckets, at_once=_AT_ONCE)
        self._watermark = MIN_TIME
        self._firing: Iterator[None] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        rows = self._columns.rows(batch, port)
        if rows.is_empty():
            return
        slices = self._slicing.start(rows[TIMES[port]]).alias(SLICE)
        ends = self._slicing.last_end(slices)
        open_ = ends - 1 > self._watermark
        if not open_.all() or self._slicing.gaps:
            gap = ends <= slices
            count_in_no_window(self._metrics, int(gap.sum()))
            late = ~open_ & ~gap
            if late.any():
                self._late.put_out(rows.filter(late), port, out)
            rows, slices = rows.filter(open_ & ~gap), slices.filter(open_ & ~gap)
        if rows.height:
            self._buckets[port].append(rows.drop(TIMES[port]).hstack([slices]))

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark > self._watermark:
            self._firing = self._fired(self._watermark, watermark, out)
            self._watermark = watermark
        if self._firing is not None:
            for _ in self._firing:
                return None
            self._firing = None
        self._closing.drop(watermark)
        return watermark

    def waiting(self) -> tuple[Waiting, ...]:
        return self._closing.waiting(self._watermark)

    @property
    def unfinished(self) -> bool:
        return self._firing is not None

    def work_at(self, watermark: int) -> int:
        return self._closing.work_at(self._watermark, watermark)

    def snapshot(self) -> OperatorSnapshot:
        kept = [store.snapshot() for store in self._stores]
        buckets = {side: each.snapshot() for side, each in zip(SIDES, self._buckets, strict=True)}
        values = {"watermark": self._watermark, "buckets": buckets, **kept[0].values, **kept[1].values}
        return OperatorSnapshot(values, {**kept[0].tables, **kept[1].tables}, tuple(self._columns.keys))

    def restore(self, parts: Sequence[StatePart]) -> None:
        for side, store, buckets in zip(SIDES, self._stores, self._buckets, strict=True):
            store.restore(parts)
            buckets.restore([part.values["buckets"][side] for part in parts])
        self._watermark = min(part.number("watermark") for part in parts)

    def _fired(self, previous: int, watermark: int, out: Collector) -> Iterator[None]:
        """Emits the rows of all windows whose last moment lies in (previous, watermark], a slice of the keys at a
        time."""
        for end, until, read in self._closing.closed_by(previous, watermark):
            ends = self._slicing.ends(end, until)
            stores = [*zip(self._stores, read, strict=True)]
            slices = max(store.slices(buckets) for store, buckets in stores)
            for number in range(slices):
                found = (store.read_slice(buckets, number, slices) for store, buckets in stores)
                left, right = (
                    None if rows is None else in_windows(rows, self._slicing, ends).drop(SLICE)
                    for rows in found
                )
                self._pairs.emit(left, right, out)
                yield
