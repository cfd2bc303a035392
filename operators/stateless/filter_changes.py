"""`FilterChanges`: a filter of changes. An update of which one half passes is an insert or a delete.

The halves of an update stand next to each other, as the operators that make changes put them out. Where the two have
been separated on the way, each passes by itself: a delete and an insert say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import polars as pl

from streamflow.core.schema import CHANGE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import OnChanges
from streamflow.operators.stateless.columns import Filter, union
from streamflow.operators.stateless.lone_halves import HALVES, ROW, judged

__all__ = ["FilterChanges"]


@dataclass(frozen=True, eq=False)
class FilterChanges(Filter):
    """Keeps the changes whose row fulfils an expression; `made` is a column that was made for it, and goes."""

    on_changes: ClassVar[OnChanges] = "take"
    made: str | None = None

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        passed = super().output_type(inputs)
        schema = passed.schema
        if self.made is not None and isinstance(schema, Schema):
            schema = Schema({name: dtype for name, dtype in schema.items() if name != self.made})
        return replace(passed, schema=schema, changes=passed.changes | HALVES)

    def needed_columns(
        self, needed: frozenset[str] | None, inputs: Sequence[StreamType]
    ) -> frozenset[str] | None:
        return union(super().needed_columns(needed, inputs), frozenset({CHANGE}))

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        kept = judged(frame.with_row_index(ROW).filter(self.predicate))
        return kept if self.made is None else kept.drop(self.made)
