"""References to earlier steps in a condition: `sf.step("small").amount`.

A reference is a Polars expression: a column whose name says the step, the summary and the column, so that it stands in
any expression. The values of such columns belong to a partial match, not to a record; `conditions` finds them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import polars as pl

from streamflow.errors import JobDefinitionError

__all__ = ["Reference", "StepReference", "Summary", "step"]

Summary = Literal["first", "last", "sum", "mean", "min", "max", "count"]

_BEGINS: Final = "\x1astep"
_BETWEEN: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class Reference:
    """A summary of a column over the events that a step has taken so far.

    Nulls are left out, as Polars does it, and NaN is neither the smallest nor the largest value; of no events a count
    and a sum are 0, and everything else is null.

    >>> Reference("small", "sum", "amount").of([2, None, 3]), Reference("small", "last", "amount").of([])
    (5, None)
    """

    step: str
    summary: Summary
    column: str = ""

    @property
    def name(self) -> str:
        """The name of the column that stands for it in expressions."""
        return _BETWEEN.join((_BEGINS, self.step, self.summary, self.column))

    @property
    def expression(self) -> pl.Expr:
        """The column that stands for it."""
        return pl.col(self.name)

    @staticmethod
    def named(column: str) -> Reference | None:
        """The reference that a column stands for; None if it is a column of the records."""
        parts = column.split(_BETWEEN, 3)
        if parts[0] != _BEGINS or len(parts) != 4:
            return None
        return Reference(parts[1], cast("Summary", parts[2]), parts[3])

    def type(self, dtype: pl.DataType | None) -> pl.DataType:
        """The type of the summary of a column of this type (None without a column); raises JobDefinitionError if there
        is no such summary."""
        if dtype is None:
            return pl.Int64()
        if self.summary in ("min", "max") and dtype.is_nested():
            raise JobDefinitionError(
                f"the {self.summary} of {self.column!r} in step {self.step!r} is asked for, and it holds {dtype}",
                hint="lists and structs are neither larger nor smaller; ask for the first or the last",
            )
        if self.summary not in ("sum", "mean"):
            return dtype
        if not dtype.is_numeric() or dtype.is_decimal():
            raise JobDefinitionError(
                f"the {self.summary} of {self.column!r} in step {self.step!r} is asked for, and it holds {dtype}",
                hint="sums and means are those of whole numbers and floats",
            )
        if self.summary == "mean" or not dtype.is_integer():
            return pl.Float64()
        return pl.Int128() if dtype in _LONG else pl.Int64()

    def of(self, values: Sequence[Any]) -> Any:
        """The summary of the values of the events that the step has taken, oldest first."""
        if self.summary == "count":
            return len(values)
        if self.summary == "last":
            return values[-1] if values else None
        if self.summary == "first":
            return values[0] if values else None
        return _OF_KNOWN[self.summary]([value for value in values if value is not None])

    def __str__(self) -> str:
        return f"{self.summary} {self.column} of {self.step}".replace("  ", " ")


_OF_KNOWN: Final[dict[str, Callable[[Sequence[Any]], Any]]] = {
    "sum": sum,
    "mean": lambda values: sum(values) / len(values) if values else None,
    "min": lambda values: min(_but_nan(values), default=None),
    "max": lambda values: max(_but_nan(values), default=None),
}
_LONG: Final = frozenset({pl.UInt64(), pl.Int128(), pl.UInt128()})
"""The whole numbers of which some are no Int64."""


def _but_nan(values: Sequence[Any]) -> Sequence[Any]:
    """The values that are not NaN; all of them if there is no other."""
    return [value for value in values if value == value] or values


class StepReference:
    """An earlier step of a pattern, in the condition of a later one or of its own repetition; made by `sf.step`.

    `.amount`, or `["amount"]`, is the column's value in the last event that the step has taken; `first`, `sum`, `mean`,
    `min` and `max` are over all that it has taken so far. Null if it has taken none (a sum and a count are 0).
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, column: str) -> pl.Expr:
        if column.startswith("__"):
            raise AttributeError(column)
        return self._the("last", column)

    def __getitem__(self, column: str) -> pl.Expr:
        return self._the("last", column)

    def last(self, column: str) -> pl.Expr:
        """The column's value in the last event."""
        return self._the("last", column)

    def first(self, column: str) -> pl.Expr:
        """The column's value in the first event."""
        return self._the("first", column)

    def sum(self, column: str) -> pl.Expr:
        """The sum of the column."""
        return self._the("sum", column)

    def mean(self, column: str) -> pl.Expr:
        """The mean of the column."""
        return self._the("mean", column)

    def min(self, column: str) -> pl.Expr:
        """The smallest value of the column."""
        return self._the("min", column)

    def max(self, column: str) -> pl.Expr:
        """The largest value of the column."""
        return self._the("max", column)

    def count(self) -> pl.Expr:
        """The number of events."""
        return Reference(self._name, "count").expression

    def _the(self, summary: Summary, column: object) -> pl.Expr:
        if not isinstance(column, str):
            raise JobDefinitionError(
                f"step({self._name!r}).{summary} got {column!r}", hint='give a column\'s name, like "amount"'
            )
        return Reference(self._name, summary, column).expression


def step(name: str) -> StepReference:
    """An earlier step of the pattern, to be referred to in a condition.

    >>> import streamflow as sf
    >>> from streamflow import col
    >>> rise = sf.pattern("rise").then("more", col("price") > sf.step("rise").price)
    >>> rise.one_or_more().until(sf.step("more").sum("price") > 100)
    Pattern(rise, then more+ until)
    """
    given: object = name
    if not isinstance(given, str):
        raise JobDefinitionError(
            f"step got {name!r}", hint='give a step\'s name, like sf.step("small").amount'
        )
    return StepReference(name)
