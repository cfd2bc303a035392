"""Partial aggregates of frames: the aggregates of one operator, compiled once for its input's columns.

`partial` makes one row per group out of records, `merge` one row out of several partials, `results` the final values.
Every partial also carries `COUNT`, the number of records in it, so that drop counters count records. An operator that
needs more of its records than the aggregates do (a session its bounds) adds `Extra` columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from streamflow.core.kinds import SettledKind
from streamflow.core.python_times import any_unheld, unheld
from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import RecordError
from streamflow.operators.stateless.columns import checked_type
from streamflow.operators.stateless.user_functions import value_maker
from streamflow.windows.aggregate import Aggregate, FoldedAggregate, Slot, is_known
from streamflow.windows.kept_values import CollectList, Quantile, TopK
from streamflow.windows.numbers import Sum
from streamflow.windows.python_functions import Aggregator, Reduce

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

_ROW: Final = "\x1arow"
_SUM: Final = "__sum"
_OUTGROWN: Final = "__outgrown_"
_MICROS: Final = 2.0**63
"""The largest sum of durations."""


@dataclass(frozen=True, slots=True)
class Extra:
    """One more partial column: its expression over records and its merge of partials."""

    name: str
    partial: pl.Expr
    merge: pl.Expr


class PartialPlan:
    """The aggregates `aggregates`, compiled for records of type `records`.

    Raises JobDefinitionError for an input column that is missing or whose type does not fit.
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
        for _, aggregate, slot in self._planned:
            _maker(aggregate, slot.dtype)  # raises if it could make nothing
        self._folded = [
            (name, aggregate, slot)
            for name, aggregate, slot in self._planned
            if isinstance(aggregate, FoldedAggregate)
        ]
        self._settled: Mapping[str, SettledKind] = {}
        self._records = records
        self._extras = [
            pl.len().cast(pl.Int64).alias(COUNT),
            *(extra.partial.alias(extra.name) for extra in extras),
        ]
        self._open = any(_is_open(aggregate, slot) for _, aggregate, slot in self._planned)
        """Whether the type of some input is known only when the job runs."""
        self._limited = [
            (name, aggregate, slot)
            for name, aggregate, slot in self._planned
            if aggregate.most(slot.dtype) is not None or _is_open(aggregate, slot)
        ]
        self._partials = self._partials_over(self._planned)
        self._values = self._values_over(self._planned)
        self._names = [expression.meta.output_name() for expression in self._partials]
        self._lists = [
            slot.column()
            for _, aggregate, slot in self._planned
            if isinstance(aggregate, CollectList | Quantile | TopK)
        ]
        self._merges = [pl.col(COUNT).sum(), *(extra.merge.alias(extra.name) for extra in extras)]
        for _, aggregate, slot in self._planned:
            if not isinstance(aggregate, FoldedAggregate):
                self._merges += aggregate.merges(slot)
        # Last, as in `partial`: new and merged partials are put together row by row.
        for _, aggregate, slot in self._folded:
            self._merges += aggregate.merges(slot)

    def in_run(self, shared: dict[str, Any]) -> PartialPlan:
        """The plan for one run of an operator: the types of results without a declared one are decided once for all
        subtasks, in the `shared` dict."""
        own = copy(self)
        own._settled = shared.setdefault("results", {name: SettledKind() for name, _, _ in self._folded})
        return own

    @property
    def vectorised(self) -> bool:
        """Whether every aggregate consists of expressions alone, whatever the values are."""
        return not self._folded and not self._limited

    def partial_query(self, frame: pl.LazyFrame, by: Sequence[str | pl.Expr]) -> pl.LazyFrame:
        """The query of `partial`, lazy, for vectorised aggregates."""
        return frame.group_by(by).agg(self._partials)

    def partial(self, frame: pl.DataFrame, by: Sequence[str | pl.Expr]) -> pl.DataFrame:
        """One row for each group of records: the group's columns, COUNT, extras and partial columns.

        Raises RecordError for a sum that has grown too large for its type.
        """
        partials = self._partials
        if self._open or self._limited:
            planned = [(name, each, _typed(each, slot, frame)) for name, each, slot in self._planned]
            partials = self._partials_over(planned) if self._open else partials
            for name, aggregate, slot in planned:
                _check_sum(frame, by, name, aggregate, aggregate.most(slot.dtype), aggregate.expressions[:1])
        if not self._folded:
            return frame.group_by(by).agg(partials)
        grouped = frame.with_row_index(_ROW).group_by(by).agg(*partials, pl.col(_ROW))
        groups = grouped[_ROW].to_list()
        columns = [
            pl.Series(slot.column(), _folded(frame, aggregate, groups), dtype=pl.Binary)
            for _, aggregate, slot in self._folded
        ]
        return grouped.drop(_ROW).with_columns(columns)

    def merge(self, frame: pl.DataFrame, by: Sequence[str], also: Sequence[pl.Expr] = ()) -> pl.DataFrame:
        """One row for all partials of a group; `also` are further columns of it.

        Raises RecordError for a sum that has grown too large for its type.
        """
        for name, aggregate, slot in self._limited:
            most = aggregate.most(frame[slot.column()].dtype)
            _check_sum(frame, by, name, aggregate, most, [pl.col(slot.column())])
        # Partials of earlier versions may lack a column.
        missing = [name for name in self._names if name not in frame.columns]
        frame = frame.with_columns(pl.lit(None).alias(name) for name in missing) if missing else frame
        merged = frame.group_by(by).agg(*self._merges, *also)
        if not self._folded:
            return merged
        return merged.with_columns(
            _combined(merged[slot.column()], aggregate) for _, aggregate, slot in self._folded
        )

    def empty(self) -> pl.DataFrame:
        """The partial columns of no records, as one row."""
        frame = _no_records(self._records)
        partials = self._partials
        if self._open:
            partials = self._partials_over(
                [(n, each, _typed(each, slot, frame)) for n, each, slot in self._planned]
            )
        columns = [frame.select(expression).to_series() for expression in partials]
        # Of a column of lists there is a list for each group, and here none.
        columns = [
            column if len(column) else pl.Series(column.name, [[]], pl.List(column.dtype))
            for column in columns
        ]
        for _, aggregate, slot in self._folded:
            values = _evaluated(frame, aggregate)
            folded = aggregate.fold(values, [[]], _maker(aggregate, values.dtype))
            columns.append(pl.Series(slot.column(), folded, dtype=pl.Binary))
        return pl.DataFrame(columns)

    def results(self, frame: pl.DataFrame, leading: Sequence[str | pl.Expr]) -> pl.DataFrame:
        """The columns `leading` of partials, and the value of each aggregate; raises RecordError for a value that
        does not fit its type."""
        # Polars panics over lists of several chunks of which one has nothing but empty ones.
        chunked = [frame[name].rechunk() for name in self._lists if frame[name].n_chunks() > 1]
        frame = frame.with_columns(chunked) if chunked else frame
        planned, values = self._planned, self._values
        if self._open:
            planned = [(name, each, _finished(each, slot, frame)) for name, each, slot in planned]
            values = self._values_over(planned)
        limited = {
            name: (outgrown, aggregate)
            for name, aggregate, slot in planned
            if (outgrown := aggregate.outgrown(slot)) is not None
        }
        checks = [outgrown.alias(_OUTGROWN + name) for name, (outgrown, _) in limited.items()]
        checked = frame.select(*leading, *values, *checks)
        for name, (outgrown, aggregate) in limited.items():
            if checked[_OUTGROWN + name].any():
                raise _too_large(frame.filter(outgrown), leading, name, aggregate)
        out = checked[checked.columns[: checked.width - len(checks)]]
        if not self._folded:
            return out
        return out.with_columns(
            aggregate.finish(out[name], slot.dtype, self._settled.get(name)).alias(name)
            for name, aggregate, slot in self._folded
        )

    def _partials_over(self, planned: Sequence[tuple[str, Aggregate, Slot]]) -> list[pl.Expr]:
        return [*self._extras, *(e for _, aggregate, slot in planned for e in aggregate.partials(slot))]

    def _values_over(self, planned: Sequence[tuple[str, Aggregate, Slot]]) -> list[pl.Expr]:
        return [aggregate.value(slot).alias(name) for name, aggregate, slot in planned]

    def partial_columns(self) -> dict[str, pl.DataType]:
        """The columns that `partial` adds to a group's own. Their types are known when the job runs."""
        names = [*self._names, *(slot.column() for _, _, slot in self._folded)]
        return dict.fromkeys(names, pl.Unknown())


def _no_records(records: StreamType) -> pl.DataFrame:
    """A frame of no records; columns whose type is not known hold nothing."""
    assert isinstance(records.schema, Schema)
    known = {name: dtype if is_known(dtype) else pl.Null() for name, dtype in records.schema.items()}
    return Schema(known).empty(timed=records.timed)


def _is_open(aggregate: Aggregate, slot: Slot) -> bool:
    return isinstance(aggregate, Sum) and not is_known(slot.dtype)


def _typed(aggregate: Aggregate, slot: Slot, records: pl.DataFrame) -> Slot:
    """The slot with the type of the input in these records."""
    if not _is_open(aggregate, slot):
        return slot
    return replace(slot, dtype=records.clear().select(aggregate.expression.alias("value")).schema["value"])


def _finished(aggregate: Aggregate, slot: Slot, partials: pl.DataFrame) -> Slot:
    """The slot with the input's type, read from the partial column."""
    if not _is_open(aggregate, slot):
        return slot
    dtype = partials[slot.column()].dtype
    return replace(slot, dtype=pl.Int64() if dtype == pl.Int128() else dtype)


def _check_sum(
    frame: pl.DataFrame,
    by: Sequence[str | pl.Expr],
    name: str,
    aggregate: Aggregate,
    most: float | None,
    summed: Sequence[pl.Expr],
) -> None:
    """Raises RecordError for a sum that would wrap around, which Polars does silently."""
    if most is None or frame.is_empty():
        return
    value = summed[0].cast(pl.Float64) if most != _MICROS else summed[0].to_physical().cast(pl.Float64)
    largest = frame.select(value.abs().max()).item()
    if largest is None or largest * frame.height < most:
        return
    groups = frame.group_by(by).agg(value.sum().abs().alias(_SUM))
    large = groups.filter(pl.col(_SUM) >= most)
    if large.height:
        keys = [column for column in large.columns if column != _SUM and not column.startswith("__")]
        raise _too_large(large, keys, name, aggregate)


def _too_large(
    large: pl.DataFrame, leading: Sequence[str | pl.Expr], name: str, aggregate: Aggregate
) -> RecordError:
    shown = large.head(1).select(*leading)
    record = shown.select(pl.exclude("^__.*$")).row(0, named=True)
    return RecordError(
        f"the {aggregate.label} {name!r} has grown too large for its type",
        record=record,
        hint="cast its input to Float64, if about right is enough",
    )


def _input_types(aggregates: Sequence[tuple[str, Aggregate]], records: StreamType) -> list[pl.DataType]:
    inputs = {
        f"{index}": aggregate.expression
        for index, (_, aggregate) in enumerate(aggregates)
        if aggregate.input is not None
    }
    others = [e for _, aggregate in aggregates for e in aggregate.expressions]
    checked_type(records, *(e.alias(f"{i}") for i, e in enumerate(others)))
    checked = checked_type(records, *(e.alias(name) for name, e in inputs.items()))
    return [checked.get(f"{index}", pl.Unknown()) for index in range(len(aggregates))]


def _evaluated(frame: pl.DataFrame, aggregate: Aggregate) -> pl.Series:
    return frame.select(aggregate.expression.alias("value")).to_series()


def _folded(frame: pl.DataFrame, aggregate: FoldedAggregate, groups: Sequence[Sequence[int]]) -> list[bytes]:
    values = _evaluated(frame, aggregate)
    if isinstance(aggregate, Aggregator | Reduce) and any_unheld(values):
        for shown in (frame.select(pl.exclude("^__.*$")), values.to_frame()):
            for error in unheld(shown).values():
                raise error
    return aggregate.fold(values, groups, _maker(aggregate, values.dtype))


def _maker(aggregate: Aggregate, dtype: pl.DataType) -> Callable[[Any], Any] | None:
    return value_maker(aggregate.add, dtype, position=1) if isinstance(aggregate, Aggregator) else None


def _combined(lists: pl.Series, aggregate: FoldedAggregate) -> pl.Series:
    merged = [items[0] if len(items) == 1 else aggregate.combine(items) for items in lists.to_list()]
    return pl.Series(lists.name, merged, dtype=pl.Binary)
