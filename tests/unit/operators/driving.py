"""Drives one keyed aggregate operator directly: records and watermarks in, rows out. Times are microseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.serde import pack, unpack
from streamflow.core.stream_type import StreamType
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.contract.operator import LATE, Operator, OperatorContext, PureSpec, UpdateCadence
from streamflow.operators.totals.running import RunningAggregateSpec
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.memory_share import MemoryShare
from streamflow.state.operator_snapshot import StatePart
from streamflow.time.clock import SeededRandom, SystemClock
from streamflow.time.timestamps import MAX_TIME
from streamflow.windows.assigners import GlobalWindow

Record = tuple[Any, int, Any]
"""(key, event time, value)."""
Spec = WindowAggregateSpec | RunningAggregateSpec

RECORDS = StreamType(Schema({"key": pl.String(), "value": pl.Int64()}), timed=True)


def frame_of(records: Iterable[Record], type_: StreamType = RECORDS) -> pl.DataFrame:
    assert isinstance(type_.schema, Schema)
    rows = [(key, value, time) for key, time, value in records]
    schema = dict(type_.schema) | {EVENT_TIME: pl.Int64()}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return (
        frame.with_columns(pl.col(EVENT_TIME).cast(EVENT_TIME_TYPE))
        if type_.timed
        else frame.drop(EVENT_TIME)
    )


@dataclass
class Outputs:
    """A collector that keeps what comes."""

    late_connected: bool = False
    main: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    late: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])

    def emit(self, batch: AnyBatch) -> None:
        assert isinstance(batch, FrameBatch)
        self.main.append(batch.frame)

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        assert output == LATE
        assert isinstance(batch, FrameBatch)
        self.late.append(batch.frame)

    def connected(self, output: str) -> bool:
        return output == LATE and self.late_connected


class Driven:
    """An operator with its combiner in front, if asked for and possible."""

    def __init__(
        self,
        spec: Spec,
        *,
        combine: bool = False,
        updates: UpdateCadence = "batch",
        records: StreamType = RECORDS,
        memory_budget: int = 1 << 26,
    ) -> None:
        self.spec, self.records, self._combine = spec, records, combine
        self.metrics = OperatorMetrics("op-1", 0)
        self.ctx = OperatorContext(
            operator_id="op-1",
            subtask=0,
            parallelism=1,
            max_parallelism=128,
            clock=SystemClock(),
            random=SeededRandom(1),
            state=MemoryBackend(),
            metrics=self.metrics,
            updates=updates,
            memory_budget=MemoryShare.alone(memory_budget),
        )
        self.out = Outputs(late_connected=isinstance(spec, WindowAggregateSpec) and spec.late_used)
        self.type = spec.output_type([records])
        self._before: Operator | None = None
        self.operator: Operator
        self._build()

    def _build(self) -> None:
        parts = self.spec.split_combiner([self.records]) if self._combine else None
        if parts is None:
            self.operator = self.spec.build(self.ctx, [self.records])
            return
        combiner, rest = parts
        assert isinstance(combiner, PureSpec)
        self._before = combiner.build(self.ctx, [self.records])
        between = combiner.output_type([self.records])
        assert rest.output_type([between]) == self.type
        self.operator = rest.build(self.ctx, [between])

    def batch(self, *records: Record) -> Driven:
        self.frame(frame_of(records, self.records))
        return self

    def frame(self, frame: pl.DataFrame) -> None:
        batch: AnyBatch = FrameBatch(frame)
        if self._before is not None:
            # A channel may make one batch of several that are combined each by itself.
            between, middle = Outputs(), frame.height // 2
            for part in (frame[:middle], frame[middle:]) if middle else (frame,):
                self._before.process_batch(FrameBatch(part), 0, between)
            batch = FrameBatch(pl.concat(between.main))
        self.operator.process_batch(batch, 0, self.out)

    def watermark(self, time: int) -> Driven:
        endless = isinstance(self.spec, WindowAggregateSpec) and isinstance(self.spec.assigner, GlobalWindow)
        forwarded = None if endless and time < MAX_TIME else time
        assert self.operator.on_watermark(time, self.out) == forwarded
        while self.operator.unfinished:
            assert self.operator.on_watermark(time, self.out) == forwarded
        return self

    def epoch(self) -> Driven:
        self.operator.on_epoch_end(1, self.out)
        return self

    def restarted(self) -> Driven:
        """A new one that was restored from this one's snapshot."""
        other = Driven(self.spec, combine=self._combine, updates=self.ctx.updates, records=self.records)
        kept = self.operator.snapshot()
        values = unpack(pack(dict(kept.values)))
        other.operator.restore([StatePart(range(128), values, kept.tables, self.ctx.state)])
        return other

    def end(self) -> Driven:
        self.watermark(MAX_TIME)
        self.operator.finish(self.out)
        return self

    def take(self) -> list[tuple[Any, ...]]:
        """The rows put out since the last call, in their order; times in microseconds, event time last."""
        frames, self.out.main = self.out.main, []
        for frame in frames:
            expected = [*(self.type.schema), *([EVENT_TIME] if self.type.timed else [])]  # type: ignore[misc]
            assert frame.columns == expected
        return [row for frame in frames for row in _rows(frame)]

    def late(self) -> list[tuple[Any, ...]]:
        frames, self.out.late = self.out.late, []
        return [row for frame in frames for row in _rows(frame)]

    @property
    def dropped(self) -> int:
        return int(self.metrics.late_dropped.value)

    @property
    def in_no_window(self) -> int:
        return int(self.metrics.counter("streamflow_records_in_no_window_total", "").value)


def _rows(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    times = [name for name, dtype in frame.schema.items() if dtype == EVENT_TIME_TYPE]
    return frame.with_columns(pl.col(times).to_physical()).rows()


def fed(driven: Driven, records: Sequence[Record], sizes: Iterable[int]) -> Driven:
    """All records, in batches of these sizes (the last one repeated)."""
    position, size = 0, len(records)
    lengths = iter(sizes)
    while position < len(records):
        size = max(1, next(lengths, size))
        driven.batch(*records[position : position + size])
        position += size
    return driven
