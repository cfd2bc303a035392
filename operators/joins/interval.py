"""The interval join: pairs of rows with equal keys, the right's event time within an interval around the left's.

A pair goes out as soon as both halves are there. Each side is kept, by key and bucket of event time, while a partner
may still come. A row that has to wait until it is certain that no partner comes (for a null side, for semi and anti)
also waits in order of time; when the watermark decides it, its partners are looked up once more. The output
watermark is held back by as long as such a row may wait (as in Flink's interval join).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import Collector, Operator, OperatorContext
from streamflow.operators.contract.waiting import Waiting, earliest
from streamflow.operators.joins.matching import Interval, matched
from streamflow.operators.joins.sides import ALONE, SIDES, TIMES, Columns, JoinSpec, Late
from streamflow.operators.windows.buckets import Buckets
from streamflow.state.frames.merging import as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, format_duration, format_time

__all__ = ["IntervalJoin"]

_BUCKET_ROWS: Final = 196_608
"""The number of rows that a bucket should have at most: so many are sorted within some ten milliseconds."""


@dataclass(frozen=True, kw_only=True)
class IntervalJoin(JoinSpec):
    """A join of two streams with event time: `left + lower ≤ right ≤ left + upper`, in microseconds."""

    kind: ClassVar[str] = "interval_join"
    lower: int
    upper: int

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        self.check_timed(inputs, "a join within an interval")
        return super().output_type(inputs)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _IntervalJoining(self, ctx, self.columns(inputs))

    def state_signature(self, inputs: Sequence[StreamType]) -> Mapping[str, Any]:
        return {**super().state_signature(inputs), "within": [self.lower, self.upper]}

    def describe(self) -> str:
        bounds = f"{format_duration(self.lower)} to {format_duration(self.upper)}"
        return (
            f"{super().describe()} within {bounds}; keeps rows for {format_duration(self.upper - self.lower)}"
        )


class _Side:
    """The rows kept of one input: `stored` to be looked up by the other's, `waiting` to be decided.

    `reach` is how long after a row's time its last partner may come, `kept` how long it is looked up.
    """

    def __init__(self, spec: IntervalJoin, ctx: OperatorContext, columns: Columns, port: int) -> None:
        interval = Interval(spec.lower, spec.upper)
        # The watermark decides which rows have no partner, and for semi which have one.
        waits = (True, False) if spec.how == "semi" else ALONE[spec.how]
        self.reach = interval.around(port)[1]
        self.kept = interval.span if waits[1 - port] else self.reach
        self.waits = waits[port]
        owned = OwnedKeys(tuple(columns.keys), ctx.groups, ctx.max_parallelism)
        self._store = FrameStore(
            ctx.state, ctx.operator_id, as_they_are, ctx.memory_budget, owned, state=SIDES[port]
        )
        self.stored = Buckets(self._store, max(interval.span, 1), time=TIMES[port], most_rows=_BUCKET_ROWS)
        self.waiting = TimeSorted(
            ctx.state,
            ctx.operator_id,
            ctx.memory_budget,
            owned,
            time=TIMES[port],
            state=f"{SIDES[port]}-waiting",
        )

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Any]]:
        stored, waiting = self._store.snapshot(), self.waiting.snapshot()
        values = {**stored.values, **waiting.values, "buckets": self.stored.snapshot()}
        return values, {**stored.tables, **waiting.tables}

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._store.restore(parts)
        self.stored.restore([part.values["buckets"] for part in parts])
        self.waiting.restore(parts)


class _IntervalJoining(Operator):
    """The logic of `IntervalJoin` in one subtask."""

    def __init__(self, spec: IntervalJoin, ctx: OperatorContext, columns: Columns) -> None:
        self._columns = columns
        self._interval = Interval(spec.lower, spec.upper)
        self._pairs = spec.how not in ("semi", "anti")
        self._partnered = spec.how == "semi"
        self._sides = [_Side(spec, ctx, columns, port) for port in (0, 1)]
        self._late = Late(columns, ctx.metrics)
        self._held_back = max([0, *(side.reach for side in self._sides if side.waits)])
        self._watermark = MIN_TIME
        self._deciding: Iterator[None] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        side = self._sides[port]
        rows = self._late.sorted_out(self._columns.rows(batch, port), port, self._watermark, out)
        if side.waits and rows.height:
            side.waiting.add(rows)
        rows = self._columns.with_partner_possible(rows)
        if rows.is_empty():
            return
        if self._pairs:
            others = self._others(rows, port)
            if others:
                other = concatenated(others)
                both = self._interval.pairs(*((other, rows) if port else (rows, other)), self._columns.keys)
                if both.height:
                    left, right = (both[time] for time in TIMES)
                    out.emit(self._columns.written(both, left.zip_with(left > right, right)))
        if self._pairs or port == 1:
            side.stored.append(rows)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark > self._watermark:
            self._watermark = watermark
            self._deciding = self._decide(out)
        if self._deciding is not None:
            for _ in self._deciding:
                return None
            self._deciding = None
        for side in self._sides:
            side.stored.drop_until(_before(watermark, side.kept))
        # Rows that still wait may come out with an earlier time than this.
        return _before(watermark, self._held_back)

    def waiting(self) -> tuple[Waiting, ...]:
        found: list[Waiting] = []
        for side, name in zip(self._sides, SIDES, strict=True):
            first = side.waiting.earliest() if side.waits else None
            if first is not None:
                what = f"the {name}'s row of {format_time(first)}, which may be alone"
                found.append(Waiting(what, first + side.reach, len(side.waiting)))
        return earliest(*found)

    @property
    def unfinished(self) -> bool:
        return self._deciding is not None

    def work_at(self, watermark: int) -> int:
        return sum(side.waiting.rows_by(_before(watermark, side.reach)) for side in self._sides if side.waits)

    def snapshot(self) -> OperatorSnapshot:
        kept = [side.snapshot() for side in self._sides]
        values = {"watermark": self._watermark, **{name: kept[port][0] for port, name in enumerate(SIDES)}}
        return OperatorSnapshot(values, {**kept[0][1], **kept[1][1]}, tuple(self._columns.keys))

    def restore(self, parts: Sequence[StatePart]) -> None:
        for side, name in zip(self._sides, SIDES, strict=True):
            side.restore([replace(part, values=part.values[name]) for part in parts])
        self._watermark = min(part.number("watermark") for part in parts)

    def _others(self, rows: pl.DataFrame, port: int) -> list[pl.DataFrame]:
        """Frames of the other side with all partners of these rows."""
        first, last = self._interval.around(port)
        times = rows[TIMES[port]]
        low, high = int(times.min()) + first, int(times.max()) + last  # type: ignore[arg-type]
        return self._sides[1 - port].stored.candidates(low, high, rows)

    def _decide(self, out: Collector) -> Iterator[None]:
        """Emits the rows of which the watermark says that no partner can come, some thousand at a time."""
        for port, side in enumerate(self._sides):
            if not side.waits:
                continue
            for rows in side.waiting.due(_before(self._watermark, side.reach)):
                has_partner = matched(
                    rows, port, self._others(rows, port), self._columns.keys, self._interval
                )
                chosen = rows.filter(has_partner if self._partnered else ~has_partner)
                if chosen.height:
                    alone = self._columns.alone(chosen, port)
                    out.emit(self._columns.written(alone, chosen[TIMES[port]]))
                yield


def _before(watermark: int, duration: int) -> int:
    """The time that lies `duration` before a watermark; the end of time stays."""
    return watermark if watermark >= MAX_TIME else max(watermark - duration, MIN_TIME)
