"""The common part of joins by windows that each row knows when it comes: rows wait for an end of their own, and what is
over by the watermark goes out in portions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from streamflow.operators.contract.operator import Collector, Operator, OperatorContext
from streamflow.operators.joins.sides import Columns, Late
from streamflow.operators.joins.window_pairs import WindowPairs
from streamflow.operators.windows.window_rows import window_rows
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MIN_TIME
from streamflow.windows.assigners import Session
from streamflow.windows.own_assigner import WindowAssigner

if TYPE_CHECKING:
    from streamflow.state.frames.store import FrameStore
    from streamflow.state.frames.time_sorted import TimeSorted

__all__ = ["ClosingRows"]


class ClosingRows(Operator):
    """One subtask; what it keeps is in `_kept`, by the name in a snapshot."""

    def __init__(self, assigner: Session | WindowAssigner, ctx: OperatorContext, columns: Columns) -> None:
        self._rules = window_rows(assigner)
        self._columns = columns
        self._pairs = WindowPairs(columns)
        self._late = Late(columns, ctx.metrics)
        self._metrics = ctx.metrics
        self._owned = OwnedKeys(tuple(columns.keys), ctx.groups, ctx.max_parallelism)
        self._kept: dict[str, FrameStore | TimeSorted] = {}
        self._watermark = MIN_TIME
        self._firing: Iterator[None] | None = None

    def on_watermark(self, watermark: int, out: Collector) -> int | None:
        if watermark > self._watermark:
            self._watermark = watermark
            self._firing = self._fired(out)
        if self._firing is not None:
            for _ in self._firing:
                return None
            self._firing = None
        return watermark

    @property
    def unfinished(self) -> bool:
        return self._firing is not None

    def snapshot(self) -> OperatorSnapshot:
        kept = {name: each.snapshot() for name, each in self._kept.items()}
        values = {"watermark": self._watermark, **{name: dict(each.values) for name, each in kept.items()}}
        tables = {name: table for each in kept.values() for name, table in each.tables.items()}
        return OperatorSnapshot(values, tables, tuple(self._columns.keys))

    def restore(self, parts: Sequence[StatePart]) -> None:
        for name, each in self._kept.items():
            each.restore([replace(part, values=part.values[name]) for part in parts])
        self._watermark = min(part.number("watermark") for part in parts)

    @abstractmethod
    def _fired(self, out: Collector) -> Iterator[None]:
        """Emits what is over by the watermark, a portion at a time."""
