"""Kinds of Python values, for columns of undeclared type, and which kinds one column may hold together.

Numbers may be mixed if one type holds all of them exactly: small integers and floats, or integers of any size. Other
kinds may not: 0 and "0", 1 and True, a date and a time, dicts of other fields are different things, and Polars'
common type would turn the one into the other. A kind is a text, or a tuple for lists and structs, so that kinds can
be compared.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from threading import Lock
from typing import Any, Final, cast

import polars as pl

from streamflow.core.values import EXACT, UNFIT_ERRORS, strict_column
from streamflow.errors import cut, represented
from streamflow.user_code import raised_by_user

__all__ = [
    "NOTHING",
    "Kind",
    "Refusal",
    "SettledKind",
    "any_column",
    "column_type",
    "joined",
    "kind_of",
    "kinds_of",
    "shown",
]

Refusal = Callable[[pl.DataType], str | None]
Kind = str | tuple[Any, ...]
"""One of the texts below, ("list", kind of the elements), or ("struct", ((name, kind), …))."""

NOTHING: Final = "nothing"
_INTEGER, _LARGE, _HUGE, _FLOAT = "an integer", "a large integer", "a huge integer", "a float"
_OTHER: Final = "no value that a column holds"

_KINDS: Final[dict[type, Kind]] = {
    type(None): NOTHING,
    bool: "a truth value",
    float: _FLOAT,
    str: "text",
    bytes: "bytes",
    dt.date: "a date",
    dt.time: "a time of day",
    dt.timedelta: "a duration",
    Decimal: "a decimal number",
}
_TYPES: Final[dict[Kind, pl.DataType]] = {
    NOTHING: pl.Null(),
    "a truth value": pl.Boolean(),
    _INTEGER: pl.Int64(),
    _LARGE: pl.Int64(),
    _HUGE: pl.Int128(),
    _FLOAT: pl.Float64(),
    "text": pl.String(),
    "bytes": pl.Binary(),
    "a date": pl.Date(),
    "a time": pl.Datetime("us"),
    "a time with a zone": pl.Datetime("us", "UTC"),
    "a time of day": pl.Time(),
    "a duration": pl.Duration("us"),
}
_ALIKE: Final = {
    frozenset({_INTEGER, _LARGE}): _LARGE,
    frozenset({_INTEGER, _HUGE}): _HUGE,
    frozenset({_LARGE, _HUGE}): _HUGE,
    frozenset({_INTEGER, _FLOAT}): _FLOAT,
}


def kind_of(value: Any) -> Kind:
    """The kind of one value.

    >>> kind_of(1), kind_of([1, 2.5]), kind_of({"a": None})
    ('an integer', ('list', 'a float'), ('struct', (('a', 'nothing'),)))
    """
    known = _KINDS.get(value.__class__)
    if known is not None:
        return known
    try:
        return _compound(value)
    except BaseException as raised:  # noqa: BLE001 — it may hold itself, or be of a class that raises anything
        raised_by_user(raised)
        return _OTHER


def _compound(value: Any) -> Kind:
    match value:
        case bool():
            return "a truth value"
        case int():
            return _integer(value)
        case float():
            return _FLOAT
        case str():
            return "text"
        case dt.datetime():
            return "a time" if value.tzinfo is None else "a time with a zone"
        case Mapping():
            return _struct(cast("Mapping[str, Any]", value).items())
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _struct((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        case tuple() if hasattr(cast("Any", value), "_fields"):
            return _struct(cast("Any", value)._asdict().items())
        case list() | tuple():
            return _list(cast("Sequence[Any]", value))
        case _:
            return (
                kind_of(value.item())
                if type(value).__module__ == "numpy" and hasattr(value, "item")
                else _OTHER
            )


def joined(left: Kind, right: Kind) -> Kind | None:
    """The kind of a column that holds both kinds; None if no column does.

    >>> joined("an integer", "a float"), joined("an integer", "text"), joined(("list", "nothing"), ("list", "text"))
    ('a float', None, ('list', 'text'))
    """
    if left == right or right == NOTHING:
        return left
    if left == NOTHING:
        return right
    if isinstance(left, str) or isinstance(right, str):
        return (
            _ALIKE.get(frozenset({left, right})) if isinstance(left, str) and isinstance(right, str) else None
        )
    if left[0] != right[0]:
        return None
    if left[0] == "list":
        inner = joined(left[1], right[1])
        return None if inner is None else ("list", inner)
    fields, others = dict(left[1]), dict(right[1])
    if fields.keys() != others.keys():
        return None
    both = {name: joined(kind, others[name]) for name, kind in fields.items()}
    return None if None in both.values() else ("struct", tuple(both.items()))


def kinds_of(values: Sequence[Any], settled: Kind = NOTHING) -> tuple[Kind, dict[int, Kind]]:
    """The kind of a column that holds these values beside those that have `settled` it, and by position the kinds of
    values that do not fit. The first value decides.

    >>> kinds_of([1, None, "1", 2.5])
    ('a float', {2: 'text'})
    """
    kinds: set[Kind] | None = _plain(values)
    if kinds is not None and len(kinds) <= 1 and _OTHER not in kinds:
        found = joined(settled, *kinds) if kinds else settled
        if found is not None:
            return found, {}
    misfits: dict[int, Kind] = {}
    for index, value in enumerate(values):
        kind = kind_of(value)
        both = None if kind == _OTHER else joined(settled, kind)
        if both is None:
            misfits[index] = kind
        else:
            settled = both
    return settled, misfits


def column_type(kind: Kind, values: Iterable[Any] = ()) -> pl.DataType:
    """The type of a column of this kind; for decimal numbers, with the places that `values` have.

    >>> column_type(("list", "an integer"))
    List(Int64)
    """
    if kind == "a decimal number":
        places = [-int(v.as_tuple().exponent) for v in values if isinstance(v, Decimal) and v.is_finite()]
        return pl.Decimal(38, min(38, max([0, *places])))
    if isinstance(kind, str):
        return _TYPES[kind]
    if kind[0] == "list":
        elements = (each for value in values if value is not None for each in value)
        return pl.List(column_type(kind[1], elements))
    return pl.Struct({name: column_type(inner) for name, inner in kind[1]})


def shown(kind: Kind) -> str:
    """A kind as text for error messages.

    >>> shown(("list", ("struct", (("a", "text"),))))
    "a list of {'a': text}"
    """
    if isinstance(kind, str):
        return kind
    if kind[0] == "list":
        return f"a list of {'nothing' if kind[1] == NOTHING else shown(kind[1]).removeprefix('a ').removeprefix('an ')}"
    return "{" + ", ".join(f"{name!r}: {shown(inner)}" for name, inner in kind[1]) + "}"


class SettledKind:
    """The kind of one column's values so far, shared by all subtasks that fill it: the first value decides.

    >>> kind = SettledKind()
    >>> kind.settle([1]), kind.settle(["1"]), kind.settle([0.5])
    (('an integer', {}), ('an integer', {0: 'text'}), ('a float', {}))
    """

    def __init__(self, refusal: Refusal | None = None) -> None:
        """`refusal` gives the reason why the column's use cannot take a type. Values of refused types do not decide."""
        self._kind: Kind = NOTHING
        self._refusal = None if refusal is None else cache(refusal)
        self._lock = Lock()

    def settle(self, values: Sequence[Any]) -> tuple[Kind, dict[int, Kind]]:
        """The column's kind with these values, and by position the kinds of values that do not fit."""
        with self._lock:
            refused: dict[int, Kind] = {}
            if self._kind == NOTHING and self._refusal is not None:
                kinds = {index: kind_of(value) for index, value in enumerate(values)}
                refused = {index: kind for index, kind in kinds.items() if self.refusal(kind, values[index])}
                values = [None if index in refused else value for index, value in enumerate(values)]
            self._kind, misfits = kinds_of(values, self._kind)
            return self._kind, {**misfits, **refused}

    def refusal(self, kind: Kind, value: Any) -> str | None:
        """The reason why the column cannot take a value of this kind, whatever it held before."""
        if self._refusal is None or kind in (NOTHING, _OTHER):
            return None
        return self._refusal(column_type(kind, [value]))

    def holds(self, kind: Kind) -> Kind | None:
        """The column's kind with values of `kind`; None if they do not fit."""
        with self._lock:
            if self._kind == NOTHING and self.refusal(kind, None) is not None:
                return None
            both = joined(self._kind, kind)
            self._kind = self._kind if both is None else both
            return both


def any_column(
    name: str,
    values: Sequence[Any],
    settled: SettledKind | None = None,
    types: Iterable[type] | None = None,
) -> tuple[pl.Series, dict[int, str]]:
    """Values as a column of their own type, with null for values that do not fit, and an error text for each by
    position. `settled` is the column's kind so far; `types` are the values' types, if known.

    >>> any_column("n", [1, "1"])[1]
    {1: "'n' is '1', text, and was an integer before"}
    """
    settled = settled or SettledKind()
    made = _at_once(name, values, map(type, values) if types is None else types)
    if made is not None:
        column, found = made
        held = settled.holds(found)
        if held is not None and _TYPES[held] == column.dtype:
            return column, {}
    kind, unfit = settled.settle(values)
    misfits: dict[int, str] = {}
    for index, found in unfit.items():
        refusal = settled.refusal(found, values[index])
        why = _clash(kind, found) if refusal is None else f"{shown(found)}, {refusal}"
        misfits[index] = f"{name!r} is {cut(represented(values[index]), 60)}, {why}"
    kept = [None if index in unfit else value for index, value in enumerate(values)] if unfit else values
    column, refused = strict_column(name, kept, column_type(kind, kept))
    return column, {**refused, **misfits}


def _at_once(name: str, values: Sequence[Any], types: Iterable[type]) -> tuple[pl.Series, Kind] | None:
    """Values of one simple type and nulls as a column, with their kind: the most frequent case, and the fastest."""
    kinds = set(types) - {type(None)}
    only = kinds.pop() if len(kinds) == 1 else None
    if only not in (str, float, bool, int):
        return None
    kind = _INTEGER if only is int else _KINDS[only]
    try:
        column = pl.Series(name, values, dtype=_TYPES[kind], strict=True)
    except UNFIT_ERRORS:
        return None
    if only is int:
        kind = _integer(max(abs(cast("int", column.min())), abs(cast("int", column.max()))))
    return column, kind


def _clash(before: Kind, found: Kind) -> str:
    if found == _OTHER:
        return "which no column holds: text, numbers, truth values, times, bytes, and lists or dicts of such do fit"
    return f"{shown(found)}, and was {shown(before)} before"


def _plain(values: Sequence[Any]) -> set[Kind] | None:
    """The kinds of values of one simple type and nulls; None if each value has to be examined."""
    types = set(map(type, values))
    types.discard(type(None))
    if len(types) > 1:
        return None
    if types == {int}:
        return {_integer(max(value.__abs__() for value in values if value is not None))}
    return {_KINDS[kind] for kind in types} if types <= _KINDS.keys() else None


def _integer(value: int) -> Kind:
    size = abs(int(value))
    if size <= EXACT:
        return _INTEGER
    if size < 2**63:
        return _LARGE
    return _HUGE if size < 2**127 else _OTHER


def _list(values: Sequence[Any]) -> Kind:
    kinds = _plain(values)
    if kinds is not None and len(kinds) <= 1:
        inner = next(iter(kinds), NOTHING)
        return _OTHER if inner == _OTHER else ("list", inner)
    settled: Kind = NOTHING
    for value in values:
        kind = kind_of(value)
        both = None if kind == _OTHER else joined(settled, kind)
        if both is None:
            # Other kinds need no examination, which would not end for a list that holds itself.
            return _OTHER
        settled = both
    return ("list", settled)


def _struct(items: Iterable[tuple[Any, Any]]) -> Kind:
    fields: list[tuple[str, Kind]] = []
    for name, value in items:
        kind = kind_of(value)
        if kind == _OTHER or not isinstance(name, str):
            return _OTHER
        fields.append((name, kind))
    return ("struct", tuple(fields)) if fields else _OTHER
