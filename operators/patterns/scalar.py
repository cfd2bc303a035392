"""Expressions over one row of Python values.

A condition on earlier steps is judged for one event and one partial match at a time, where a query would take a fifth
of a millisecond. Comparisons, arithmetic and logic of plain types are therefore evaluated in Python, with the results
that Polars gives; any other expression is a query over one row.
"""

from __future__ import annotations

import itertools
import json
import operator
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from io import StringIO
from typing import Any, Final, cast

import polars as pl

from streamflow.operators.kernels.engine import collected_as_written

__all__ = ["Scalar", "conjuncts", "scalar", "values_of"]

Scalar = Callable[[Mapping[str, Any]], object]
"""A function from the values of columns (`values_of`) to the value of an expression."""

_AND: Final = ("And", "LogicalAnd")
_OR: Final = ("Or", "LogicalOr")
_COMPARES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "Gt": operator.gt,
    "GtEq": operator.ge,
    "Lt": operator.lt,
    "LtEq": operator.le,
    "Eq": operator.eq,
    "NotEq": operator.ne,
}
_COMPUTES: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "Plus": operator.add,
    "Minus": operator.sub,
    "Multiply": operator.mul,
}
_BITS: Final = 1 << 64
_DEEPEST: Final = 240
"""The brackets in one another in Polars' text of an expression, two or three for each operation."""
_WRAPPINGS: Final = frozenset({"Dyn", "Scalar", "Int", "Float", "String", "Boolean", "Int64", "Float64"})
_KINDS: Final[dict[type, str]] = {bool: "bool", int: "int", float: "float", str: "text"}


def conjuncts(expression: pl.Expr) -> list[pl.Expr]:
    """The expressions that `&` joins.

    >>> [str(each) for each in conjuncts((pl.col("a") > 1) & pl.col("b") & pl.col("c"))]
    ['[(col("a")) > (dyn int: 1)]', 'col("b")', 'col("c")']
    """
    try:
        return [_expression(node) for node in _conjuncts(_node(expression))]
    except (_OtherError, pl.exceptions.ComputeError):
        # Polars reads no expression that is nested deeper than 128 brackets.
        return [expression]


def scalar(expression: pl.Expr, types: Mapping[str, pl.DataType]) -> Scalar:
    """The expression as a function of one row, of `values_of` its columns; `types` are those of the columns.

    >>> types = {"a": pl.Int64(), "b": pl.Float64()}
    >>> larger = scalar(pl.col("a") * 2 > pl.col("b"), types)
    >>> larger({"a": 3, "b": 5.5}), larger({"a": None, "b": 5.5})
    (True, None)
    """
    try:
        return _function(_node(expression), types)[0]
    except _OtherError:
        return partial(_query, expression, dict(types))


def values_of(column: pl.Series) -> list[Any]:
    """The values of a column as a `Scalar` takes them: Python's, or numbers where Python's would lose nanoseconds, or
    the order of an Enum.

    >>> values_of(pl.Series(["high", "low"], dtype=pl.Enum(["low", "high"])))
    [1, 0]
    """
    return (column.to_physical() if _as_numbers(column.dtype) else column).to_list()


def _as_numbers(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.Datetime | pl.Duration):
        return dtype.time_unit == "ns"
    return isinstance(dtype, pl.Enum | pl.Time)


def _query(expression: pl.Expr, types: Mapping[str, pl.DataType], values: Mapping[str, Any]) -> object:
    columns = {name: _column(name, values[name], dtype) for name, dtype in types.items()}
    return collected_as_written(pl.DataFrame(columns).lazy().select(expression)).item()


def _column(name: str, value: object, dtype: pl.DataType) -> pl.Series:
    if dtype == pl.Unknown():
        return pl.Series(name, [value])
    if isinstance(value, int) and isinstance(dtype, pl.Enum):
        value = dtype.categories[value]
    elif _as_numbers(dtype):
        return pl.Series(name, [value], dtype=pl.Int64).cast(dtype)
    elif isinstance(value, int) and not -_BITS // 2 <= value < _BITS // 2:
        dtype = pl.Int128()  # a sum
    return pl.Series(name, [value], dtype=dtype)


def _node(expression: pl.Expr) -> Any:
    """The expression as plain values; raises _OtherError for one that is nested too deep to go through it."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Polars calls the format unstable; the package's bounds admit no other version
        text = expression.meta.serialize(format="json")
    # A bracket inside a text only makes it look deeper.
    if max(itertools.accumulate((character in "{[") - (character in "}]") for character in text)) > _DEEPEST:
        raise _OtherError
    return json.loads(text)


def _expression(node: Any) -> pl.Expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Expr.deserialize(StringIO(json.dumps(node)), format="json")


def _conjuncts(node: Any) -> list[Any]:
    binary = _only(node, "BinaryExpr")
    if binary is not None and binary["op"] in _AND:
        return [*_conjuncts(binary["left"]), *_conjuncts(binary["right"])]
    return [node]


class _OtherError(Exception):
    """The expression is none that Python evaluates."""


def _only(node: Any, kind: str) -> Any:
    """The content of a node of this kind; None for another."""
    return cast("dict[str, Any]", node).get(kind) if isinstance(node, dict) else None


_Kind = str
"""The kind of a value: bool, int, float, text."""


def _function(node: Any, types: Mapping[str, pl.DataType]) -> tuple[Scalar, _Kind]:
    """A node as a function, and the kind of its values; raises _OtherError."""
    column, literal, binary, function = (
        _only(node, kind) for kind in ("Column", "Literal", "BinaryExpr", "Function")
    )
    if column is not None:
        return operator.itemgetter(column), _kind(types[column])
    if literal is not None:
        return _literal(literal)
    if binary is not None:
        return _binary(binary["op"], _function(binary["left"], types), _function(binary["right"], types))
    if function is not None:
        return _called(function, types)
    raise _OtherError


def _kind(dtype: pl.DataType) -> _Kind:
    if dtype == pl.Boolean():
        return "bool"
    if dtype == pl.String():
        return "text"
    if dtype in (pl.Int64(), pl.Float64()):
        return "int" if dtype == pl.Int64() else "float"
    raise _OtherError


def _literal(literal: Any) -> tuple[Scalar, _Kind]:
    """A constant, in Polars' wrappings: `{"Dyn": {"Int": 5}}`, `{"Scalar": {"String": "a"}}`."""
    value: object = literal
    while isinstance(value, dict) and len(cast("dict[str, object]", value)) == 1:
        ((wrapping, value),) = cast("dict[str, object]", value).items()
        if wrapping not in _WRAPPINGS:
            raise _OtherError
    for type_, kind in _KINDS.items():
        if isinstance(value, type_):
            return partial(_constant, value), kind
    raise _OtherError


def _constant(value: object, values: Mapping[str, Any]) -> object:
    return value


def _binary(op: str, left: tuple[Scalar, _Kind], right: tuple[Scalar, _Kind]) -> tuple[Scalar, _Kind]:
    (one, kind), (other, second) = left, right
    numbers = {kind, second} <= {"int", "float"}
    if op in _AND or op in _OR:
        if {kind, second} != {"bool"}:
            raise _OtherError
        return _logic(one, other, decides=op in _OR), "bool"
    if op in _COMPARES and (numbers or kind == second):
        if "float" in (kind, second):
            return _floats(_COMPARES[op], one, other), "bool"
        return _known(_COMPARES[op], one, other), "bool"
    if op == "TrueDivide" and numbers:
        return _known(_divided, one, other), "float"
    if op in _COMPUTES and numbers:
        if kind == second == "int":
            return _known(partial(_wrapped, _COMPUTES[op]), one, other), "int"
        return _known(partial(_as_floats, _COMPUTES[op]), one, other), "float"
    raise _OtherError


def _known(compute: Callable[[Any, Any], Any], one: Scalar, other: Scalar) -> Scalar:
    """The result for two values, null if one is null."""

    def result(values: Mapping[str, Any]) -> Any:
        left, right = one(values), other(values)
        return None if left is None or right is None else compute(left, right)

    return result


def _floats(compare: Callable[[Any, Any], bool], one: Scalar, other: Scalar) -> Scalar:
    """The comparison of floats: NaN equals itself and is larger than any number."""

    def result(values: Mapping[str, Any]) -> Any:
        left: Any = one(values)
        right: Any = other(values)
        if left is None or right is None:
            return None
        left, right = float(left), float(right)
        return compare(
            (left != left, 0.0 if left != left else left), (right != right, 0.0 if right != right else right)
        )

    return result


def _logic(one: Scalar, other: Scalar, *, decides: bool) -> Scalar:
    """`&` or `|`, for which one value, True or False, decides whatever the other is."""

    def result(values: Mapping[str, Any]) -> Any:
        left = one(values)
        if left is decides:
            return decides
        right = other(values)
        if right is decides:
            return decides
        return None if left is None or right is None else not decides

    return result


def _wrapped(compute: Callable[[int, int], int], left: int, right: int) -> int:
    """The result in 64 bits, as Polars gives it."""
    result = compute(left, right)
    return (result + _BITS // 2) % _BITS - _BITS // 2


def _as_floats(compute: Callable[[float, float], float], left: float, right: float) -> float:
    return compute(float(left), float(right))


def _divided(left: float, right: float) -> float:
    left, right = float(left), float(right)
    if right:
        return left / right
    if left != left or not left:
        return float("nan")
    negative = (left < 0) != (str(right)[0] == "-")
    return float("-inf") if negative else float("inf")


def _called(function: Any, types: Mapping[str, pl.DataType]) -> tuple[Scalar, _Kind]:
    """`~`, `is_null`, `is_not_null`, `fill_null`."""
    inputs = function["input"]
    if function["function"] == "FillNull":
        (given, of), (instead, kind) = (_function(each, types) for each in inputs)
        if of != kind:
            raise _OtherError
        return (lambda values: instead(values) if (value := given(values)) is None else value), of
    kind = _only(function["function"], "Boolean")
    if kind not in ("Not", "IsNull", "IsNotNull"):
        raise _OtherError
    given, of = _function(inputs[0], types)
    if kind == "IsNull":
        return (lambda values: given(values) is None), "bool"
    if kind == "IsNotNull":
        return (lambda values: given(values) is not None), "bool"
    if of != "bool":
        raise _OtherError

    def negated(values: Mapping[str, Any]) -> Any:
        value = given(values)
        return None if value is None else not value

    return negated, "bool"
