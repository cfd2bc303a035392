"""Shortcuts for one aggregate: `count()`, `sum("v")`, … on keyed and windowed streams."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import polars as pl

from streamflow.windows import aggregates
from streamflow.windows.aggregates import Aggregate

__all__ = ["Shortcuts"]

Result = TypeVar("Result")
Values = str | pl.Expr | Callable[[Any], Any]


class Shortcuts(Generic[Result]):
    """One aggregate under its own name, which is the result's column: `sum("v")` is `aggregate(sum=sf.sum("v"))`.

    `aggregate` makes several at once, or one under another name. The values come from a column, an expression or a
    function of the record.
    """

    __slots__ = ()

    @abstractmethod
    def aggregate(self, **aggregates: Aggregate) -> Result:
        """Several aggregates at once, each under its own name."""

    def count(self) -> Result:
        """The number of records; the column `count`."""
        return self.aggregate(count=aggregates.count())

    def sum(self, values: Values) -> Result:
        """The sum of the values; the column `sum`."""
        return self.aggregate(sum=aggregates.sum(values))

    def mean(self, values: Values) -> Result:
        """The mean of the values; the column `mean`."""
        return self.aggregate(mean=aggregates.mean(values))

    def min(self, values: Values) -> Result:
        """The smallest value; the column `min`."""
        return self.aggregate(min=aggregates.min(values))

    def max(self, values: Values) -> Result:
        """The largest value; the column `max`."""
        return self.aggregate(max=aggregates.max(values))

    def first(self, values: Values) -> Result:
        """The value of the earliest record; the column `first`."""
        return self.aggregate(first=aggregates.first(values))

    def last(self, values: Values) -> Result:
        """The value of the latest record; the column `last`."""
        return self.aggregate(last=aggregates.last(values))

    def n_unique(self, values: Values) -> Result:
        """The number of different values; the column `n_unique`."""
        return self.aggregate(n_unique=aggregates.n_unique(values))
