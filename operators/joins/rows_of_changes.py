"""`RowsOfChanges`: changes as the rows of a table, in which a withdrawn row is gone and a new one replaces it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from streamflow.core.schema import CHANGE, EVENT_TIME
from streamflow.core.stream_type import StreamType, withdraws
from streamflow.operators.contract.operator import OnChanges
from streamflow.operators.joins.table_rows import DELETED
from streamflow.operators.stateless.columns import ColumnSpec, resolved_type, union
from streamflow.operators.stateless.lone_halves import updated

__all__ = ["RowsOfChanges"]


@dataclass(frozen=True, eq=False)
class RowsOfChanges(ColumnSpec):
    """The rows of changes with the column DELETED instead of the kind of change.

    An update's old row says that its key is gone, and the new one behind it, if it has the same key, that it is not:
    both at the time of the new one. `timed`: they have event time.
    """

    kind: ClassVar[str] = "rows_of_changes"
    on_changes: ClassVar[OnChanges] = "take"
    timed: bool = False

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        if self.timed:
            kind, time = pl.col(CHANGE).cast(pl.String), pl.col(EVENT_TIME)
            frame = frame.with_columns(
                pl.when(updated(kind)).then(time.shift(-1)).otherwise(time).alias(EVENT_TIME)
            )
        return _rows(frame)

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return StreamType(resolved_type(inputs[0], _rows).schema, inputs[0].timed)

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return None if needed is None else union(needed - {DELETED}, frozenset({CHANGE}))


def _rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(withdraws(pl.col(CHANGE)).alias(DELETED)).drop(CHANGE)
