"""The rows that come out of a join by window: pairs in the same window and rows alone, with the window's bounds."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from streamflow.core.schema import EVENT_TIME_TYPE
from streamflow.operators.aggregates.partials import END, START
from streamflow.operators.contract.operator import Collector
from streamflow.operators.joins.matching import joined
from streamflow.operators.joins.sides import Columns
from streamflow.operators.windows.emission import WINDOW_COLUMNS

__all__ = ["WindowPairs"]


class WindowPairs:
    """The results of one join. `start_of` tells the starts of windows by their ends; None: rows have them in START."""

    def __init__(self, columns: Columns, start_of: Callable[[pl.Series], pl.Series] | None = None) -> None:
        self._columns = columns
        self._start_of = start_of
        self._on = [*columns.keys, *([START] if start_of is None else []), END]

    def emit(self, left: pl.DataFrame | None, right: pl.DataFrame | None, out: Collector) -> None:
        """Emits the join of both sides' rows (None: none), each with the END of its window."""
        for rows, port in joined(left, right, self._on, self._columns.how):
            if rows.is_empty():
                continue
            whole = rows if port is None else self._columns.alone(rows, port)
            ends = whole[END]
            starts = whole[START] if self._start_of is None else self._start_of(ends)
            bounds = [
                bound.cast(EVENT_TIME_TYPE).alias(name)
                for name, bound in zip(WINDOW_COLUMNS, (starts, ends), strict=True)
            ]
            out.emit(self._columns.written(whole.hstack(bounds), ends - 1))
