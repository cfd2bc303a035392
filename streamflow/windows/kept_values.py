"""Aggregates that keep values: first, last, collect_list, top_k, and the exact n_unique and quantile.

"First", "last" and "in order" mean event time, ties by the value (null smallest), so that the result does not depend
on the order in which records arrive. In a stream without event time it is the order of arrival. State grows with the
values kept; `approx_n_unique` and `approx_quantile` do not grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import polars as pl

from streamflow.errors import JobDefinitionError, unknown_name
from streamflow.windows.aggregate import Aggregate, AggregateInput, Slot, checked_input

__all__ = ["CollectList", "Distinct", "Edge", "Interpolation", "Quantile", "TopK"]

Interpolation = Literal["nearest", "higher", "lower", "midpoint", "linear"]


@dataclass(frozen=True, eq=False)
class Edge(Aggregate):
    """The value of the earliest record, or with `latest` of the latest one; nulls count as values, as in Polars."""

    latest: bool = False

    @property
    def label(self) -> str:  # type: ignore[override]
        return "last" if self.latest else "first"

    def partials(self, slot: Slot) -> list[pl.Expr]:
        value, time = self.expression, slot.time
        if time is None:
            return [self._pick(value).alias(slot.column(0))]
        at = time.max() if self.latest else time.min()
        return [
            self._pick(value.sort_by(time, value)).alias(slot.column(0)),
            at.alias(slot.column(1)),
        ]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        value, time = pl.col(slot.column(0)), pl.col(slot.column(1))
        if slot.time is None:
            return [self._pick(value)]
        return [self._pick(value.sort_by(time, value)), time.max() if self.latest else time.min()]

    def value(self, slot: Slot) -> pl.Expr:
        return pl.col(slot.column(0))

    def _pick(self, values: pl.Expr) -> pl.Expr:
        return values.last() if self.latest else values.first()

    def _shown(self) -> list[str]:
        return [str(self.input)]


@dataclass(frozen=True, eq=False)
class CollectList(Aggregate):
    """All values, nulls included, in the order of event time."""

    label: ClassVar[str] = "collect_list"

    def partials(self, slot: Slot) -> list[pl.Expr]:
        if slot.time is None:
            return [self.expression.alias(slot.column())]
        return [pl.struct(slot.time.alias("time"), self.expression.alias("value")).alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column()).explode(empty_as_null=False)]

    def value(self, slot: Slot) -> pl.Expr:
        values = pl.col(slot.column())
        if slot.time is None:
            return values
        return values.list.sort().list.eval(pl.element().struct.field("value"))


@dataclass(frozen=True, eq=False)
class TopK(Aggregate):
    """The values of the `k` records with the largest `by` (the value itself, if not given), largest first.

    Records whose `by` is null are left out; among equal `by` the larger value comes first.
    """

    label: ClassVar[str] = "top_k"
    k: int = 1
    by: AggregateInput = None

    def __post_init__(self) -> None:
        if type(self.k) is not int or self.k < 1:
            raise JobDefinitionError(f"top_k with k={self.k!r}", hint="k is a whole number from 1 on")
        if self.by is not None:
            checked_input("top_k by", self.by)

    @property
    def expressions(self) -> tuple[pl.Expr, ...]:
        return (self.expression, self._by)

    @property
    def _by(self) -> pl.Expr:
        return self.expression if self.by is None else Edge(self.by).expression

    def with_by(self, expression: str | pl.Expr) -> TopK:
        """The same aggregate with another `by` column."""
        return TopK(self.input, self.k, expression)

    def output(self, dtype: pl.DataType) -> pl.DataType:
        over = self if self.by is None else TopK(self.input, self.k, pl.col("time"))
        return Aggregate.output(over, dtype)

    def partials(self, slot: Slot) -> list[pl.Expr]:
        pairs = pl.struct(self._by.alias("by"), self.expression.alias("value"))
        return [self._largest(pairs.filter(self._by.is_not_null())).alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [self._largest(pl.col(slot.column()).explode(empty_as_null=False))]

    def value(self, slot: Slot) -> pl.Expr:
        return pl.col(slot.column()).list.eval(pl.element().struct.field("value"))

    def _largest(self, pairs: pl.Expr) -> pl.Expr:
        return pairs.sort(descending=True).head(self.k)


@dataclass(frozen=True, eq=False)
class Distinct(Aggregate):
    """The exact number of distinct values, null being one of them as in Polars; keeps them all."""

    label: ClassVar[str] = "n_unique"
    constant_type: ClassVar[pl.DataType | None] = pl.Int64()

    def partials(self, slot: Slot) -> list[pl.Expr]:
        return [self.expression.unique().alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column()).explode(empty_as_null=False).unique()]

    def value(self, slot: Slot) -> pl.Expr:
        return pl.col(slot.column()).list.len().cast(pl.Int64)


@dataclass(frozen=True, eq=False)
class Quantile(Aggregate):
    """The exact quantile of the non-null values, by Polars' interpolations; keeps all values."""

    label: ClassVar[str] = "quantile"
    q: float = 0.5
    interpolation: Interpolation = "nearest"

    def __post_init__(self) -> None:
        check_quantile(self.label, self.q)
        if self.interpolation not in get_args(Interpolation):
            message, hint = unknown_name("interpolation", str(self.interpolation), get_args(Interpolation))
            raise JobDefinitionError(f"{self.label}: {message}", hint=hint)

    def fits(self, dtype: pl.DataType) -> bool:
        return dtype.is_numeric() or dtype.is_temporal()

    def partials(self, slot: Slot) -> list[pl.Expr]:
        return [self.expression.drop_nulls().alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column()).explode(empty_as_null=False)]

    def value(self, slot: Slot) -> pl.Expr:
        return pl.col(slot.column()).list.agg(pl.element().quantile(self.q, self.interpolation))

    def _shown(self) -> list[str]:
        shown = [] if self.interpolation == "nearest" else [f"interpolation={self.interpolation}"]
        return [str(self.input), f"q={self.q}", *shown]


def check_quantile(label: str, q: Any) -> None:
    """Raises JobDefinitionError if `q` is not between 0 and 1."""
    if isinstance(q, bool) or not isinstance(q, (int, float)) or not 0 <= q <= 1:
        raise JobDefinitionError(f"{label} with q={q!r}", hint="q lies between 0 and 1: 0.5 is the median")
