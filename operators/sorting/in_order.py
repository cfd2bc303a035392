"""Records in order of event time: they wait until the watermark has passed them.

The order of arrival, and with it the cutting into batches, then makes no difference to what becomes of them. A record
that comes behind the watermark is late.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME
from streamflow.operators.contract.operator import LATE, Collector, Operator, OperatorContext
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.sorting.record_form import RecordForm
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MIN_TIME, format_time

__all__ = ["InOrder"]


class InOrder(Operator):
    """An operator on records of one input in order of event time; records of one moment come together."""

    def __init__(
        self,
        ctx: OperatorContext,
        form: RecordForm,
        keys: OwnedKeys,
        *,
        ties: Sequence[str] = (),
    ) -> None:
        """`ties`: the columns by which records of one moment are ordered; none: by arrival."""
        self._form = form
        self._metrics = ctx.metrics
        self._waiting = TimeSorted(
            ctx.state,
            ctx.operator_id,
            ctx.memory_budget,
            keys,
            time=EVENT_TIME,
            state="waiting",
            ties=ties,
        )
        self._watermark = MIN_TIME
        self._unfinished = False

    @abstractmethod
    def take(self, frame: pl.DataFrame | None, reached: int, out: Collector) -> None:
        """Takes the next records in order (None: there are none) and notes that event time has `reached` so far."""

    def accepted(self, frame: pl.DataFrame, out: Collector) -> pl.DataFrame:
        """The records of a batch that can be kept."""
        return frame

    def forwarded(self, watermark: int) -> int:
        """The watermark to forward when all records up to `watermark` have been taken."""
        return watermark

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        assert isinstance(batch, FrameBatch)
        frame = self.accepted(batch.unmarked().frame, out)
        late = frame[EVENT_TIME].cast(pl.Int64) <= self._watermark
        if late.any():
            self._late(frame.filter(late), out)
            frame = frame.filter(~late)
        self._waiting.add(frame)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        # After a restore an input that others had gone on without may be behind.
        watermark = max(watermark, self._watermark)
        frame, reached = self._waiting.take(watermark)
        self.take(None if frame is None else self._form.complete(frame), reached, out)
        self._unfinished = reached < watermark
        if self._unfinished:
            return None
        self._watermark = watermark
        return self.forwarded(watermark)

    def waiting(self) -> tuple[Waiting, ...]:
        first = self._waiting.earliest()
        if first is None:
            return ()
        return (Waiting(f"the record of {format_time(first)}", first, len(self._waiting)),)

    def work_at(self, watermark: int) -> int:
        return self._waiting.rows_by(watermark)

    @property
    def unfinished(self) -> bool:
        return self._unfinished

    def snapshot(self) -> OperatorSnapshot:
        waiting = self._waiting.snapshot()
        return OperatorSnapshot(
            {"watermark": self._watermark, **waiting.values}, waiting.tables, waiting.keys
        )

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._watermark = min((part.number("watermark") for part in parts), default=MIN_TIME)
        self._waiting.restore(parts)

    def _late(self, frame: pl.DataFrame, out: Collector) -> None:
        if out.connected(LATE):
            out.emit_to(LATE, self._form.batch(frame))
        else:
            self._metrics.late_dropped.add(frame.height)
