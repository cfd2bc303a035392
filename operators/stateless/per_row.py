"""The check that an expression gives each record a value that depends on that record alone.

Batches begin and end anywhere, so any other expression (a sum, the row before, a rank) would give other values in
each mode and for each batch size. Such expressions are refused when the job is built. The check walks over an
expression's nodes in Polars' serialised form; for functions, Polars itself tells whether they work by row.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from io import StringIO
from typing import Any, Final, cast

import polars as pl

from streamflow.errors import JobDefinitionError, cut

__all__ = ["check_per_row", "written"]

_PROCESS: Final = "key_by(…).process(…) keeps earlier records in state"
_HINTS: Final = {
    "Agg": "key_by(…).aggregate(…), with or without a window, adds records up",
    "Len": "key_by(…).aggregate(n=sf.count()) counts",
    "Over": "key_by(…).aggregate(…), with or without a window, gives one value for a key",
    "Explode": "explode('column') makes a record of each element",
    "Filter": "filter(…) leaves records out",
    "DropNulls": "filter(col(…).is_not_null()) leaves records out",
    "DropNans": "filter(col(…).is_not_nan()) leaves records out",
    "IsUnique": _PROCESS,
    "LowerBound": "it is one value for all of them: write that value",
    "UpperBound": "it is one value for all of them: write that value",
    "Replace": "pl.when(…).then(…).otherwise(…) chooses for each record",
    "Strptime": 'give the format, like str.to_datetime("%Y-%m-%dT%H:%M:%S%.f"), or let the source read a time: '
    'schema={"column": sf.Datetime}',
    "ToPhysical": "an Enum numbers texts as it names them",
}
_OF_ONE_VALUE: Final = frozenset(
    {
        "ListExpr",
        "ArrayExpr",
        "StringExpr",
        "BinaryExpr",
        "TemporalExpr",
        "CategoricalExpr",
        "StructExpr",
        "ExtensionExpr",
        "Reinterpret",
        "FfiPlugin",
    }
)
"""Functions of one value each, for which Polars could only tell with the types known."""
_NAMES: Final = {
    "ConcatVertical": "join",
    "Slice": "head, tail or slice",
    "Gather": "gather or get",
    "RLE": "rle",
    "RLEID": "rle_id",
    "QCut": "qcut",
    "RollingExpr": "rolling",
    "RollingExprBy": "rolling",
    "Random": "sample or shuffle",
    "FillNullWithStrategy": "filling from the rows beside it",
    "Range": "a range",
    "Correlation": "corr or cov",
}
"""Users' names for nodes that are called otherwise."""
_ORDERED: Final = frozenset(
    {"Agg", "Len", "Over", "Rolling", "Sort", "SortBy", "Gather", "Slice", "Filter", "Explode"}
)
"""Nodes that read several records, or give another number of records."""


_UNSEEDED: Final = re.compile(r'"(Sample|Random)":\{[^\]]*?"seed":null')
"""A pattern for randomness without a seed within the lists of a record, which no second run repeats."""


def written(expression: pl.Expr) -> str:
    """An expression as JSON; raises JobDefinitionError for one that holds a Python function."""
    try:
        with warnings.catch_warnings():
            # Polars calls the format unstable; the package's bounds admit no other version.
            warnings.simplefilter("ignore")
            return expression.meta.serialize(format="json")
    except pl.exceptions.ComputeError as error:
        raise JobDefinitionError(
            f"{cut(str(expression), 100)} calls a Python function, which may be given several records at once",
            hint="map(function) and filter(function) hand a function one record each",
        ) from error


def check_per_row(*expressions: pl.Expr, columns: Mapping[str, pl.DataType] | None = None) -> None:
    """Raises JobDefinitionError for an expression whose value for a record depends on other records. `columns` are
    the stream's columns: they tell whether `is_in` looks into each record's own list or into a whole column.

    >>> check_per_row(pl.col("v") * 2, pl.col("l").list.sum())
    >>> try:
    ...     check_per_row(pl.col("v") / pl.col("v").sum())
    ... except JobDefinitionError as error:
    ...     error.message
    'sum in [(col("v")) / (col("v").sum())] depends on other records'
    """
    for expression in expressions:
        text = written(expression)
        for name, kind in _found(json.loads(text), columns or {}):
            raise JobDefinitionError(
                f"{name} in {cut(str(expression), 100)} depends on other records",
                hint=f"the records of a batch are there by chance; {_HINTS.get(kind, _PROCESS)}",
            )
        if _UNSEEDED.search(text):
            raise JobDefinitionError(
                f"{cut(str(expression), 100)} is another value each time",
                hint="records read again after a failure would get other values; give a seed=",
            )


def _found(node: Any, columns: Mapping[str, pl.DataType]) -> Iterator[tuple[str, str]]:
    """The parts that depend on other records: their names and the kinds of their nodes."""
    if isinstance(node, list):
        for each in cast("Iterable[Any]", node):
            yield from _found(each, columns)
    elif node == "Len":
        yield "len", "Len"
    elif isinstance(node, dict):
        for kind, content in cast("dict[str, Any]", node).items():
            yield from _in(kind, content, columns)


def _in(kind: str, content: Any, columns: Mapping[str, pl.DataType]) -> Iterator[tuple[str, str]]:
    match kind:
        case "Function":
            yield from _function(content, columns)
        case "Literal":
            if "Series" in content:
                yield "a series", kind
        case "Eval":
            # The elements of one list, in any order, belong to one record.
            yield from _found(content["expr"], columns)
            if "Cumulative" in content["variant"]:
                yield "cumulative_eval", kind
        case "Agg":
            yield _name(next(iter(content))), kind
        case _ if kind in _ORDERED:
            yield _name(kind), kind
        case "Column" | "Selector" | "Field" | "dtype" | "options" | "op":
            return
        case _:
            yield from _found(content, columns)


def _function(content: dict[str, Any], columns: Mapping[str, pl.DataType]) -> Iterator[tuple[str, str]]:
    function, inputs = content["function"], cast("list[Any]", content["input"])
    kind, detail = function, cast("Any", None)
    if isinstance(function, dict):
        kind, detail = next(iter(cast("dict[str, Any]", function).items()))
    inner: Any = next(iter(cast("dict[str, Any]", detail)), None) if isinstance(detail, dict) else detail
    if inner == "ConcatVertical":
        yield _name(inner), inner
    elif inner == "Strptime" and detail[inner][1]["format"] is None:
        # The format is that of the first text of a batch.
        yield "parsing times without a format", inner
    elif kind in ("Replace", "ReplaceStrict") and any(
        _expression(each).meta.root_names() for each in inputs[1:3]
    ):
        yield "replace by other columns", "Replace"
    elif kind == "ToPhysical" and _numbers_texts(inputs[0], columns):
        # The number of a text is the number of those that came before it.
        yield "to_physical of texts", "ToPhysical"
    elif inner == "IsIn" and _looks_into_a_column(inputs[1], columns):
        yield "is_in another column", inner
    elif kind not in _OF_ONE_VALUE and not _separable(json.dumps(function), len(inputs)):
        name = str(inner if kind == "Boolean" else kind)
        yield _name(name), name
    for number, each in enumerate(inputs):
        # A series beside a function's own input is a table to look into, the same for all records.
        if not (
            number and isinstance(each, dict) and "Series" in cast("dict[str, Any]", each).get("Literal", ())
        ):
            yield from _found(each, columns)


def _looks_into_a_column(node: Any, columns: Mapping[str, pl.DataType]) -> bool:
    if not _expression(node).meta.root_names():
        return False
    dtype = _type_of(node, columns)
    return dtype is not None and not isinstance(dtype, (pl.List, pl.Array))


def _numbers_texts(node: Any, columns: Mapping[str, pl.DataType]) -> bool:
    dtype = _type_of(node, columns)
    return isinstance(dtype, pl.Categorical) and not isinstance(dtype, pl.Enum)


def _type_of(node: Any, columns: Mapping[str, pl.DataType]) -> pl.DataType | None:
    """The type of an expression; None if it reads a missing column, which has an error of its own."""
    try:
        (dtype,) = pl.LazyFrame(schema=dict(columns)).select(_expression(node)).collect_schema().dtypes()
    except pl.exceptions.PolarsError:
        return None
    return dtype


def _expression(node: Any) -> pl.Expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Expr.deserialize(StringIO(json.dumps(node)), format="json")


@cache
def _separable(function: str, inputs: int) -> bool:
    """Whether a function of so many columns gives each row a value of its own, whatever the others are."""
    columns = [{"Column": f"c{number}"} for number in range(inputs)]
    expression = _expression({"Function": {"input": columns, "function": json.loads(function)}})
    try:
        meta = expression.meta
        return meta.is_row_separable() and (meta.is_length_preserving() or meta.is_scalar())
    except pl.exceptions.PolarsError:
        return False


def _name(node: str) -> str:
    """The users' name for a node."""
    snake = "".join(f"_{c.lower()}" if c.isupper() and at else c.lower() for at, c in enumerate(node))
    return _NAMES.get(node, snake)
