"""The global window: partials by key until the input has ended, then one result for each key.

It has no bounds, so results carry no window columns; their event time is that of the key's latest record (or, where
the job says so, earliest one). Until they are emitted the watermark behind stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import CHANGE, CHANGE_TYPE, EVENT_TIME, EVENT_TIME_TYPE, shown_name
from streamflow.operators.aggregates.partials import LATEST
from streamflow.operators.contract.operator import Collector, Operator
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.windows.emission import PANE_COLUMNS
from streamflow.operators.windows.window_parts import WindowParts
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME

__all__ = ["GlobalWindows"]

_PANE: Final = 0


class GlobalWindows(Operator):
    """The logic of `WindowAggregateSpec` for the global window in one subtask."""

    def __init__(
        self, parts: WindowParts, columns: Sequence[str], *, retracting: bool, pane_info: bool
    ) -> None:
        self._parts = parts
        time = next(iter(parts.times), LATEST)
        event_time = pl.col(time).cast(EVENT_TIME_TYPE).alias(EVENT_TIME)
        change = [pl.lit("insert").cast(CHANGE_TYPE).alias(CHANGE)] if retracting else []
        self._leading = [*change, *(pl.col(key).alias(shown_name(key)) for key in parts.keys), event_time]
        only = {
            "pane_timing": pl.lit("ON_TIME"),
            "pane_index": pl.lit(0, pl.Int64),
            "is_first": pl.lit(True),
            "is_last": pl.lit(True),
        }
        self._trailing = [only[name].alias(name) for name in PANE_COLUMNS] if pane_info else []
        self._columns = columns
        self._firing: Iterator[pl.DataFrame] | None = None

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        frame = self._parts.checked(batch)
        if not frame.is_empty():
            self._parts.store.append(_PANE, self._parts.partials(frame))

    def waiting(self) -> tuple[Waiting, ...]:
        store = self._parts.store
        return (Waiting("the global window", MAX_TIME, store.rows),) if store.rows else ()

    def snapshot(self) -> OperatorSnapshot:
        return self._parts.snapshot()

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._parts.restore(parts)

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark < MAX_TIME:
            # Results have the time of the key's latest record: nothing behind may take that for late.
            return None
        if self._firing is None:
            self._firing = self._fired()
        for results in self._firing:
            out.emit(FrameBatch(results))
            return watermark
        self._firing = None
        return watermark

    @property
    def unfinished(self) -> bool:
        return self._firing is not None

    def _fired(self) -> Iterator[pl.DataFrame]:
        """All results, by key within a slice of the keys; nothing is left then."""
        store = self._parts.store
        if _PANE not in store:
            return
        for partials in store.in_slices(_PANE):
            frame = partials.sort(self._parts.keys)
            results = self._parts.plan.results(frame, self._leading).with_columns(self._trailing)
            yield results.select(*self._columns, EVENT_TIME)
        store.drop(_PANE)
