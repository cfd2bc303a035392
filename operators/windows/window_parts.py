"""The common parts of the logic of all kinds of windows, and their common treatment of batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.membership import has_key_in
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.aggregates.combiner import with_fragments
from streamflow.operators.aggregates.partials import PartialPlan
from streamflow.operators.stateless.null_keys import check_keys
from streamflow.operators.windows.emission import PaneWriter
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart, Table
from streamflow.windows.assigners import Assigner

if TYPE_CHECKING:
    from streamflow.state.frames.store import FrameStore

__all__ = ["WindowParts"]


@dataclass(frozen=True, slots=True)
class WindowParts:
    """`groups` are the columns by which records are aggregated before they are stored. `times` are the columns, beside
    the window's bounds, of which the event time of results is made. `allowed_lateness` is in microseconds."""

    operator_id: str
    keys: list[str]
    assigner: Assigner
    plan: PartialPlan
    groups: Sequence[str | pl.Expr]
    times: Sequence[str]
    allowed_lateness: int
    discarding: bool
    null_keys_fail: bool
    partial_input: bool
    store: FrameStore
    writer: PaneWriter
    owned: OwnedKeys
    metrics: OperatorMetrics

    def checked(self, batch: AnyBatch) -> pl.DataFrame:
        """The frame of a batch whose keys are fit to be keys."""
        assert isinstance(batch, FrameBatch)
        if self.null_keys_fail:
            check_keys(batch.frame, self.keys, self.operator_id)
        return batch.frame

    def partials(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The partials of records; a batch from a combiner is returned unchanged."""
        if self.partial_input:
            return frame
        return self.plan.partial(with_fragments(self.assigner, frame), self.groups)

    def records_of(self, fragments: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
        """Those of a batch's records of which these partials were made, in their order."""
        of_records = with_fragments(self.assigner, records).select(self.groups)
        return records.filter(has_key_in(of_records, fragments, of_records.columns))

    def snapshot(
        self, values: Mapping[str, Any] | None = None, tables: Mapping[str, Table] | None = None
    ) -> OperatorSnapshot:
        """The panes, the fired ones, and the operator's other state."""
        panes, fired = self.store.snapshot(), self.writer.snapshot()
        return OperatorSnapshot(
            {**(values or {}), **panes.values, **fired.values},
            {**(tables or {}), **panes.tables, **fired.tables},
            self.owned.columns,
        )

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores the panes and the fired ones."""
        self.store.restore(parts)
        self.writer.restore(parts)


def count_in_no_window(metrics: OperatorMetrics, records: int) -> None:
    """Counts records that no window holds."""
    counter = metrics.counter(
        "streamflow_records_in_no_window_total", "Records whose time lies between two windows"
    )
    counter.add(records)
