"""Partial aggregates of frames: the aggregates of one operator, compiled once for its input's columns.

`partial` makes one row per group out of records, `merge` one out of several partials, `results` the values that go
out. Every partial also carries `COUNT`, the number of records in it, so that drop counters count records. An operator
that needs more of its records than the aggregates do (a session its bounds) adds `Extra` columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from streamflow.errors import RecordError, Where
from streamflow.operators.base import StreamType
from streamflow.operators.columns import resolved_type
from streamflow.operators.row_builder import row_dicts
from streamflow.records.schema import EVENT_TIME, Schema
from streamflow.windows.aggregate import Aggregate, FoldedAggregate, Slot

__all__ = [
    "COUNT",
    "END",
    "FIRST",
    "LAST",
    "LATEST",
    "SLICE",
    "START",
    "TIME",
    "Extra",
    "PartialPlan",
    "check_keys",
    "concatenated",
]

COUNT: Final = "__n"
FIRST: Final = "__first"
LAST: Final = "__last"
LATEST: Final = "__latest"
SLICE: Final = "__slice"
START: Final = "__start"
END: Final = "__end"
TIME: Final = pl.col(EVENT_TIME).to_physical()
"""Event time in microseconds, as an expression."""

_ROW: Final = "__row"


@dataclass(frozen=True, slots=True)
class Extra:
    """One more partial column: how it comes from records and how partials of it merge."""

    name: str
    partial: pl.Expr
    merge: pl.Expr


class PartialPlan:
    """The aggregates `aggregates`, compiled for records of type `records`.

    Raises JobDefinitionError for an input column that is not there or whose type does not fit.
    """

    def __init__(
        self, aggregates: Sequence[tuple[str, Aggregate]], records: StreamType, extras: Sequence[Extra] = ()
    ) -> None:
        types = _input_types(aggregates, records)
        time = TIME if records.timed else None
        self._planned = [
            (name, aggregate, Slot(index, dtype, time))
            for index, ((name, aggregate), dtype) in enumerate(zip(aggregates, types, strict=True))
        ]
        self.types: dict[str, pl.DataType] = {
            name: aggregate.output(slot.dtype) for name, aggregate, slot in self._planned
        }
        self._folded = [
            (name, aggregate, slot)
            for name, aggregate, slot in self._planned
            if isinstance(aggregate, FoldedAggregate)
        ]
        self._partials = [
            pl.len().cast(pl.Int64).alias(COUNT),
            *(extra.partial.alias(extra.name) for extra in extras),
        ]
        self._merges = [pl.col(COUNT).sum(), *(extra.merge.alias(extra.name) for extra in extras)]
        self._values: list[pl.Expr] = []
        for name, aggregate, slot in self._planned:
            self._partials += aggregate.partials(slot)
            self._merges += aggregate.merges(slot)
            self._values.append(aggregate.value(slot).alias(name))

    @property
    def vectorised(self) -> bool:
        """Whether every aggregate is made of expressions alone."""
        return not self._folded

    def partial_query(self, frame: pl.LazyFrame, by: Sequence[str | pl.Expr]) -> pl.LazyFrame:
        """`partial` as a lazy query, for vectorised aggregates."""
        return frame.group_by(by).agg(self._partials)

    def partial(self, frame: pl.DataFrame, by: Sequence[str | pl.Expr]) -> pl.DataFrame:
        """One row for each group of records: the group's columns, COUNT, extras and partial columns."""
        if not self._folded:
            return frame.group_by(by).agg(self._partials)
        grouped = frame.with_row_index(_ROW).group_by(by).agg(*self._partials, pl.col(_ROW))
        groups = grouped[_ROW].to_list()
        columns = [
            pl.Series(slot.column(), aggregate.fold(_evaluated(frame, aggregate), groups), dtype=pl.Binary)
            for _, aggregate, slot in self._folded
        ]
        return grouped.drop(_ROW).with_columns(columns)

    def merge(self, frame: pl.DataFrame, by: Sequence[str], also: Sequence[pl.Expr] = ()) -> pl.DataFrame:
        """Partials of the same group as one row; `also` are more columns of it."""
        merged = frame.group_by(by).agg(*self._merges, *also)
        if not self._folded:
            return merged
        return merged.with_columns(
            _combined(merged[slot.column()], aggregate) for _, aggregate, slot in self._folded
        )

    def results(self, frame: pl.DataFrame, leading: Sequence[str | pl.Expr]) -> pl.DataFrame:
        """The columns `leading` of partials, and the value of each aggregate."""
        out = frame.select(*leading, *self._values)
        if not self._folded:
            return out
        return out.with_columns(
            aggregate.finish(out[name], slot.dtype).alias(name) for name, aggregate, slot in self._folded
        )

    def partial_columns(self) -> dict[str, pl.DataType]:
        """The columns that `partial` adds to a group's own. Their types show when the job runs."""
        names = [expression.meta.output_name() for expression in self._partials]
        names += [slot.column() for _, _, slot in self._folded]
        return dict.fromkeys(names, pl.Unknown())


def concatenated(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames of the same columns as one; where types differ, because a function's results did, their common type."""
    if len(frames) == 1:
        return frames[0]
    first = frames[0].schema
    alike = all(frame.schema == first for frame in frames[1:])
    return pl.concat(frames, how="vertical" if alike else "vertical_relaxed", rechunk=False)


def check_keys(frame: pl.DataFrame, keys: Sequence[str], operator: str) -> None:
    """Refuse null keys with a RecordError that shows the first record that has one."""
    for key in keys:
        if frame[key].null_count():
            row = next(row_dicts(frame.drop(EVENT_TIME, strict=False).filter(pl.col(key).is_null()).head(1)))
            raise RecordError(
                f"the key {key!r} is null",
                record=row,
                where=Where(operator=operator),
                hint='filter such records out, or key_by(…, null_keys="group") makes null a key',
            )


def _input_types(aggregates: Sequence[tuple[str, Aggregate]], records: StreamType) -> list[pl.DataType]:
    inputs = {
        f"{index}": aggregate.expression
        for index, (_, aggregate) in enumerate(aggregates)
        if aggregate.input is not None
    }
    others = [e for _, aggregate in aggregates for e in aggregate.expressions]
    resolved_type(records, lambda frame: frame.select(e.alias(f"{i}") for i, e in enumerate(others)))
    checked = resolved_type(records, lambda frame: frame.select(e.alias(name) for name, e in inputs.items()))
    assert isinstance(checked.schema, Schema)
    return [checked.schema.get(f"{index}", pl.Unknown()) for index in range(len(aggregates))]


def _evaluated(frame: pl.DataFrame, aggregate: Aggregate) -> pl.Series:
    return frame.select(aggregate.expression.alias("value")).to_series()


def _combined(lists: pl.Series, aggregate: FoldedAggregate) -> pl.Series:
    merged = [items[0] if len(items) == 1 else aggregate.combine(items) for items in lists.to_list()]
    return pl.Series(lists.name, merged, dtype=pl.Binary)
