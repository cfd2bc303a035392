"""Aggregates whose partials are single numbers: count, sum, mean, min, max, any, all, and std and var by moments.

Nulls are treated as Polars treats them: they are skipped, the sum of nothing is 0, the mean of nothing is null.
Whole numbers are summed in 128 bits, because a stream does not end; a sum that its type cannot hold is an error, never
another number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import polars as pl

from streamflow.windows.aggregate import Aggregate, Slot

__all__ = ["AllTrue", "AnyTrue", "Count", "Max", "Mean", "Min", "Moments", "Sum"]


@dataclass(frozen=True, eq=False)
class Count(Aggregate):
    """The number of records, or of non-null values of the input; Int64."""

    label: ClassVar[str] = "count"
    constant_type: ClassVar[pl.DataType | None] = pl.Int64()

    def partials(self, slot: Slot) -> list[pl.Expr]:
        counted = pl.len() if self.input is None else self.expression.count()
        return [counted.cast(pl.Int64).alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column()).sum()]

    def value(self, slot: Slot) -> pl.Expr:
        return pl.col(slot.column())


@dataclass(frozen=True, eq=False)
class Sum(Aggregate):
    """The sum of the non-null values, 0 without any; narrower numbers are summed in 64 bits."""

    label: ClassVar[str] = "sum"

    def fits(self, dtype: pl.DataType) -> bool:
        return _number(dtype) or isinstance(dtype, pl.Duration)

    def partials(self, slot: Slot) -> list[pl.Expr]:
        value = self.expression
        if slot.dtype == pl.Boolean() or (slot.dtype.is_integer() and slot.dtype not in _WIDEST):
            value = value.cast(pl.Int128)
        elif slot.dtype.is_float():
            # In 32 bits a total of 2²⁴ does not grow any more when 1 is added to it.
            value = value.cast(pl.Float64)
        return [value.sum().alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column()).sum()]

    def value(self, slot: Slot) -> pl.Expr:
        total = pl.col(slot.column())
        if slot.dtype == pl.Null():  # only nulls so far, of a type that nothing has said
            return pl.lit(0, pl.Int64)
        if isinstance(slot.dtype, pl.Duration):
            return total
        if self._narrower(slot.dtype):
            return total.cast(self._type(slot.dtype), strict=False).fill_null(0)
        return total.fill_null(0)

    def most(self, dtype: pl.DataType) -> float | None:
        if isinstance(dtype, pl.Decimal):
            return 10.0 ** (38 - dtype.scale)
        if isinstance(dtype, pl.Duration):
            return 2.0**63
        return 2.0**127 if dtype in _WIDEST else None

    def outgrown(self, slot: Slot) -> pl.Expr | None:
        if not self._narrower(slot.dtype):
            return None
        total = pl.col(slot.column())
        return total.cast(self._type(slot.dtype), strict=False).is_null() & total.is_not_null()

    @staticmethod
    def _narrower(dtype: pl.DataType) -> bool:
        """Whether the sum has fewer bits than its partials."""
        return dtype == pl.Boolean() or dtype.is_integer()

    @staticmethod
    def _type(dtype: pl.DataType) -> pl.DataType:
        return dtype if dtype in (pl.UInt64(), *_WIDEST) else pl.Int64()


@dataclass(frozen=True, eq=False)
class Mean(Aggregate):
    """The arithmetic mean of the non-null values; of times and durations in their own type, of days a Datetime, else
    Float64."""

    label: ClassVar[str] = "mean"
    constant_type: ClassVar[pl.DataType | None] = pl.Float64()

    def fits(self, dtype: pl.DataType) -> bool:
        return _number(dtype) or dtype.is_temporal()

    def partials(self, slot: Slot) -> list[pl.Expr]:
        value = self.expression
        # Sums of times since 1970 in microseconds leave 64 bits after a few thousand values.
        number = value.to_physical().cast(pl.Int128) if slot.dtype.is_temporal() else value.cast(pl.Float64)
        return [number.sum().alias(slot.column(0)), value.count().cast(pl.Int64).alias(slot.column(1))]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column(0)).sum(), pl.col(slot.column(1)).sum()]

    def value(self, slot: Slot) -> pl.Expr:
        total, count = pl.col(slot.column(0)), pl.col(slot.column(1))
        if slot.dtype.is_temporal():
            # Between two days lies noon.
            whole, dtype = (
                (total * _DAY, pl.Datetime("us")) if slot.dtype == pl.Date() else (total, slot.dtype)
            )
            return pl.when(count > 0).then(whole // count).cast(pl.Int64).cast(dtype)
        return pl.when(count > 0).then(total / count)


@dataclass(frozen=True, eq=False)
class _OneColumn(Aggregate):
    def value(self, slot: Slot) -> pl.Expr:
        return pl.col(slot.column())


@dataclass(frozen=True, eq=False)
class _Extreme(_OneColumn):
    def fits(self, dtype: pl.DataType) -> bool:
        # Polars gives null for these instead of refusing them.
        return not dtype.is_nested() and dtype != pl.Object()


@dataclass(frozen=True, eq=False)
class Min(_Extreme):
    """The smallest non-null value."""

    label: ClassVar[str] = "min"

    def partials(self, slot: Slot) -> list[pl.Expr]:
        return [self.expression.min().alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column()).min()]


@dataclass(frozen=True, eq=False)
class Max(_Extreme):
    """The largest non-null value."""

    label: ClassVar[str] = "max"

    def partials(self, slot: Slot) -> list[pl.Expr]:
        return [self.expression.max().alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column()).max()]


@dataclass(frozen=True, eq=False)
class AnyTrue(_OneColumn):
    """Whether any value is true; null counts as false."""

    label: ClassVar[str] = "any"
    constant_type: ClassVar[pl.DataType | None] = pl.Boolean()

    def fits(self, dtype: pl.DataType) -> bool:
        return dtype == pl.Boolean()

    def partials(self, slot: Slot) -> list[pl.Expr]:
        return [self.expression.any().alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column()).any()]


@dataclass(frozen=True, eq=False)
class AllTrue(_OneColumn):
    """Whether all values are true; null counts as true."""

    label: ClassVar[str] = "all"
    constant_type: ClassVar[pl.DataType | None] = pl.Boolean()

    def fits(self, dtype: pl.DataType) -> bool:
        return dtype == pl.Boolean()

    def partials(self, slot: Slot) -> list[pl.Expr]:
        return [self.expression.all().alias(slot.column())]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        return [pl.col(slot.column()).all()]


@dataclass(frozen=True, eq=False)
class Moments(Aggregate):
    """Variance or (with `root`) standard deviation of the non-null values; null for no more than `ddof` of them.

    Partials are count, mean and sum of squared distances from the mean, merged as in Chan, Golub and LeVeque (1979):
    the difference of two large sums, which loses all digits, never arises. A fourth partial is what the mean loses to
    rounding: without it, distances between the means of values far from zero would have few digits.
    """

    constant_type: ClassVar[pl.DataType | None] = pl.Float64()
    ddof: int = 1
    root: bool = False

    @property
    def label(self) -> str:  # type: ignore[override]
        return "std" if self.root else "var"

    def fits(self, dtype: pl.DataType) -> bool:
        return _number(dtype)

    def partials(self, slot: Slot) -> list[pl.Expr]:
        value = self.expression.cast(pl.Float64)
        count = value.count().cast(pl.Int64)
        mean = value.mean()
        if slot.dtype.is_integer() and slot.dtype not in _WIDEST:
            # Beyond 2⁵³ neighbouring integers are one float: distances are taken before they become floats.
            whole = mean.cast(pl.Int128)
            away, mean = (self.expression.cast(pl.Int128) - whole).cast(pl.Float64), whole.cast(pl.Float64)
        else:
            away = value - mean
        rest = away.mean()
        squares = pl.when(count > 0).then(((away**2).sum() - count * rest**2).clip(lower_bound=0))
        return [
            count.alias(slot.column(0)),
            mean.alias(slot.column(1)),
            squares.alias(slot.column(2)),
            rest.alias(slot.column(3)),
        ]

    def merges(self, slot: Slot) -> list[pl.Expr]:
        count, mean, squares, rest = (pl.col(slot.column(part)) for part in range(4))
        # Distances from one of the means keep their digits, however far from zero all values are.
        near = mean.drop_nulls().first()
        away = mean - near + rest.fill_null(0)
        centre = pl.when(count.sum() > 0).then((count * away).sum() / count.sum())
        merged = near + centre
        return [
            count.sum(),
            merged.alias(slot.column(1)),
            (squares.sum() + (count * (away - centre) ** 2).sum()).alias(slot.column(2)),
            (near - merged + centre).alias(slot.column(3)),
        ]

    def value(self, slot: Slot) -> pl.Expr:
        count, squares = pl.col(slot.column(0)), pl.col(slot.column(2))
        variance = pl.when(count > self.ddof).then(squares / (count - self.ddof))
        return variance.sqrt() if self.root else variance

    def _shown(self) -> list[str]:
        shown = [str(self.input)] if self.input is not None else []
        return shown if self.ddof == 1 else [*shown, f"ddof={self.ddof}"]


def _number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean()


_DAY: Final = 86_400_000_000
"""One day in microseconds."""
_WIDEST: Final = (pl.Int128(), pl.UInt128())
