"""Aggregates from which records can be taken back.

Counts, sums and means are taken back by subtracting: their partials are made with the sign of each record. The others
are made again of the values that are left, so these are kept and counted. Aggregates that depend on which of several
equal values was withdrawn (the first by event time), or that forget their values (sketches, own accumulators), cannot
take a record back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from streamflow.windows.aggregate import Aggregate, Slot
from streamflow.windows.kept_values import Distinct, Quantile, TopK
from streamflow.windows.numbers import AllTrue, AnyTrue, Count, Max, Mean, Min, Moments, Sum

__all__ = ["RETRACTABLE", "SIGN", "by_values", "can_retract", "counts_equals", "signed"]

SIGN: Final = "__sign"
"""1 for a record that comes, -1 for one that is withdrawn."""
RETRACTABLE: Final = (
    "count", "sum", "mean", "min", "max", "n_unique", "any", "all", "quantile", "top_k", "std", "var",
)  # fmt: skip
"""The names of the aggregates from which records can be taken back."""
_BY_VALUES: Final = (Min, Max, AnyTrue, AllTrue, Distinct, Quantile, TopK, Moments)
_OF_ALL: Final = (Quantile, TopK, Moments)
_SIGN: Final = pl.col(SIGN)


def can_retract(aggregate: Aggregate) -> bool:
    """Whether records can be taken back from the aggregate.

    >>> can_retract(Sum("v")), can_retract(Max("v"))
    (True, True)
    """
    return signed(aggregate) is not None or by_values(aggregate)


def by_values(aggregate: Aggregate) -> bool:
    """Whether it is made again of the values that are left."""
    return isinstance(aggregate, _BY_VALUES)


def counts_equals(aggregate: Aggregate) -> bool:
    """Whether the number of equal values matters to an aggregate that is made of values."""
    return isinstance(aggregate, _OF_ALL)


def signed(aggregate: Aggregate) -> Aggregate | None:
    """The aggregate of records with a sign; None if it cannot be subtracted from."""
    match aggregate:
        case Count():
            return _SignedCount(aggregate.input)
        case Sum():
            return _SignedSum(aggregate.input)
        case Mean():
            return _SignedMean(aggregate.input)
        case _:
            return None


@dataclass(frozen=True, eq=False)
class _SignedCount(Count):
    def partials(self, slot: Slot) -> list[pl.Expr]:
        return [_number_of(self).alias(slot.column())]

    def output(self, dtype: pl.DataType) -> pl.DataType:
        return pl.Int64()


@dataclass(frozen=True, eq=False)
class _SignedSum(Sum):
    """The number of values tells the sum of none, which is 0, from what rounding has left of others."""

    def partials(self, slot: Slot) -> list[pl.Expr]:
        come, gone = (Sum(values).partials(slot)[0] for values in _come_and_gone(self))
        return [(come - gone).alias(slot.column(0)), _number_of(self).alias(slot.column(1))]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [*super().merges(slot), pl.col(slot.column(1)).sum()]

    def value(self, slot: Slot) -> pl.Expr:
        total = pl.when(pl.col(slot.column(1)) != 0).then(super().value(slot))
        return total.fill_null(pl.lit(0).cast(slot.dtype) if isinstance(slot.dtype, pl.Duration) else 0)

    def output(self, dtype: pl.DataType) -> pl.DataType:
        return Sum(self.input).output(dtype)


@dataclass(frozen=True, eq=False)
class _SignedMean(Mean):
    def partials(self, slot: Slot) -> list[pl.Expr]:
        come, gone = (Mean(values).partials(slot)[0] for values in _come_and_gone(self))
        return [(come - gone).alias(slot.column(0)), _number_of(self).alias(slot.column(1))]

    def output(self, dtype: pl.DataType) -> pl.DataType:
        return Mean(self.input).output(dtype)


def _number_of(aggregate: Aggregate) -> pl.Expr:
    """The number of records, or of non-null values of the input, less those that are withdrawn."""
    sign = _SIGN if aggregate.input is None else _SIGN.filter(aggregate.expression.is_not_null())
    return sign.sum().cast(pl.Int64)


def _come_and_gone(aggregate: Aggregate) -> tuple[pl.Expr, pl.Expr]:
    """The values that come, and those that are withdrawn."""
    return aggregate.expression.filter(_SIGN > 0), aggregate.expression.filter(_SIGN < 0)
