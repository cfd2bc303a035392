"""`FilterChanges`: a filter of changes. An update of which one half passes is an insert or a delete.

The halves of an update stand next to each other, as the operators that make changes put them out. Where the two have
been separated on the way, each passes by itself: a delete and an insert say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import polars as pl

from streamflow.core.schema import CHANGE, CHANGE_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import OnChanges
from streamflow.operators.stateless.columns import Filter, union
from streamflow.operators.stateless.lone_halves import HALVES, lone

__all__ = ["FilterChanges"]

_PASSES: Final = "\x1apasses"


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
        change, passes = pl.col(CHANGE).cast(pl.String), pl.col(_PASSES)
        before, after = change == "update_before", change == "update_after"
        whole = before & (after & passes).shift(-1, fill_value=False)
        whole |= after & (before & passes).shift(1, fill_value=False)
        kind = pl.when(whole).then(change).otherwise(lone(change)).cast(CHANGE_TYPE)
        passing = frame.with_columns(self.predicate.fill_null(False).alias(_PASSES))
        kept = passing.with_columns(kind.alias(CHANGE)).filter(_PASSES)
        return kept.drop(_PASSES if self.made is None else [_PASSES, self.made])
