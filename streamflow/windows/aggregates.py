"""The aggregates that a user types: `sf.count()`, `sf.sum("delay")`, … Each call makes immutable data and does
nothing else.

An input is a column's name, an expression, or a Python function of one row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from streamflow.errors import JobDefinitionError
from streamflow.windows.aggregate import Aggregate, AggregateInput, checked_input
from streamflow.windows.kept_values import CollectList, Distinct, Edge, Interpolation, Quantile, TopK
from streamflow.windows.numbers import AllTrue, AnyTrue, Count, Max, Mean, Min, Moments, Sum
from streamflow.windows.python_functions import Aggregator, Reduce
from streamflow.windows.sketches import ApproxDistinct, ApproxQuantile

__all__ = [
    "Aggregate",
    "Aggregator",
    "all",
    "any",
    "approx_n_unique",
    "approx_quantile",
    "collect_list",
    "count",
    "first",
    "last",
    "max",
    "mean",
    "min",
    "n_unique",
    "quantile",
    "reduce",
    "std",
    "sum",
    "top_k",
    "var",
]


def count(input: AggregateInput = None) -> Aggregate:
    """The number of records; with an input, the number of its values that are not null. Int64.

    >>> str(count()), str(count("delay"))
    ('count()', 'count(delay)')
    """
    return Count(None if input is None else checked_input("count", input))


def sum(input: AggregateInput) -> Aggregate:
    """The sum of the values that are not null; 0 if there is none, as in Polars and unlike SQL.

    Integers and booleans give Int64, whatever their width; UInt64 gives UInt64. A sum that does not fit its type is a
    RecordError that names the key; it never wraps around.

    >>> sum("delay").output(pl.Int32())
    Int64
    """
    return Sum(checked_input("sum", input))


def mean(input: AggregateInput) -> Aggregate:
    """The mean of the values that are not null; null if there is none.

    >>> mean("delay").output(pl.Int64())
    Float64
    """
    return Mean(checked_input("mean", input))


def min(input: AggregateInput) -> Aggregate:
    """The smallest value that is not null.

    >>> min("name").output(pl.String())
    String
    """
    return Min(checked_input("min", input))


def max(input: AggregateInput) -> Aggregate:
    """The largest value that is not null.

    >>> str(max(pl.col("delay").abs()))
    'max(col("delay").abs())'
    """
    return Max(checked_input("max", input))


def first(input: AggregateInput) -> Aggregate:
    """The value of the record with the smallest event time, of several such records the smallest value; null counts
    as a value.

    >>> first("gate").output(pl.String())
    String
    """
    return Edge(checked_input("first", input), latest=False)


def last(input: AggregateInput) -> Aggregate:
    """The value of the record with the largest event time, of several such records the largest value; null counts as
    a value.

    >>> str(last("gate"))
    'last(gate)'
    """
    return Edge(checked_input("last", input), latest=True)


def std(input: AggregateInput, *, ddof: int = 1) -> Aggregate:
    """The standard deviation, with `ddof` degrees of freedom taken off as in Polars; null for too few values.

    >>> str(std("delay"))
    'std(delay)'
    """
    return Moments(checked_input("std", input), _ddof(ddof), root=True)


def var(input: AggregateInput, *, ddof: int = 1) -> Aggregate:
    """The variance, with `ddof` degrees of freedom taken off as in Polars; null for too few values.

    >>> str(var("delay", ddof=0))
    'var(delay, ddof=0)'
    """
    return Moments(checked_input("var", input), _ddof(ddof), root=False)


def any(input: AggregateInput) -> Aggregate:
    """Whether the input is true for any record; null counts as false.

    >>> any("cancelled").output(pl.Boolean())
    Boolean
    """
    return AnyTrue(checked_input("any", input))


def all(input: AggregateInput) -> Aggregate:
    """Whether the input is true for all records; null counts as true.

    >>> str(all(pl.col("delay") > 0))
    'all([(col("delay")) > (dyn int: 0)])'
    """
    return AllTrue(checked_input("all", input))


def n_unique(input: AggregateInput) -> Aggregate:
    """The exact number of different values, null being one; it keeps all values, unlike `approx_n_unique`. Int64.

    >>> n_unique("tail").output(pl.String())
    Int64
    """
    return Distinct(checked_input("n_unique", input))


def approx_n_unique(input: AggregateInput) -> Aggregate:
    """The approximate number of different values (standard error 1.5 %), in at most some kilobytes. Int64.

    >>> approx_n_unique("tail").output(pl.String())
    Int64
    """
    return ApproxDistinct(checked_input("approx_n_unique", input))


def quantile(input: AggregateInput, q: float, *, interpolation: Interpolation = "nearest") -> Aggregate:
    """The exact quantile of the values that are not null; it keeps all values, unlike `approx_quantile`.

    >>> str(quantile("delay", 0.5))
    'quantile(delay, q=0.5)'
    """
    return Quantile(checked_input("quantile", input), q, interpolation)


def approx_quantile(input: AggregateInput, q: float) -> Aggregate:
    """The approximate quantile of the numbers, in bounded memory; most exact near 0 and 1. Float64.

    >>> approx_quantile("delay", 0.99).output(pl.Int64())
    Float64
    """
    return ApproxQuantile(checked_input("approx_quantile", input), q)


def collect_list(input: AggregateInput) -> Aggregate:
    """All values as a list in the order of event time, nulls included.

    >>> collect_list("gate").output(pl.String())
    List(String)
    """
    return CollectList(checked_input("collect_list", input))


def top_k(
    input: AggregateInput, k: int, *, by: str | pl.Expr | Callable[[Any], Any] | None = None
) -> Aggregate:
    """The values of the `k` records with the largest `by` (or value), largest first; a null `by` is left out.

    >>> str(top_k("tail", 3, by="delay"))
    'top_k(tail, k=3, by=delay)'
    """
    return TopK(checked_input("top_k", input), k, by)


def reduce(function: Callable[[Any, Any], Any], input: AggregateInput, *, packed: bool = False) -> Aggregate:
    """Values combined two by two by a function, in no promised order.

    With `packed` the input gives bytes made by `windows.accumulators.pack`, and so does the result.

    >>> str(reduce(lambda left, right: left + right, "delay"))
    'reduce(delay, <lambda>)'
    """
    if not callable(function):
        raise JobDefinitionError(f"reduce needs a function of two values, and got {function!r}")
    return Reduce(checked_input("reduce", input), function, packed)


def _ddof(ddof: int) -> int:
    if type(ddof) is not int or ddof < 0:
        raise JobDefinitionError(f"ddof={ddof!r}", hint="it is a whole number from 0 on")
    return ddof
