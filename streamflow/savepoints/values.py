"""Stored values as columns: the Polars type of a declared type, and the plain Python values behind it.

Values are stored without their classes: a dataclass is a map from field to value. A record's fields become columns;
any other value becomes the one column `value`. Values without a Polars type (mixed types, integers beyond 64 bits)
become text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

import polars as pl

from streamflow.time.timestamps import EARLIEST, LATEST

__all__ = ["VALUE", "column", "moments", "stored_form", "value_columns"]

VALUE: Final = "value"

_SCALARS: Final[Mapping[str, pl.DataType]] = {
    "str": pl.String(),
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "bytes": pl.Binary(),
    "date": pl.Date(),
    "time": pl.Time(),
    "timedelta": pl.Duration("us"),
    "UUID": pl.String(),
    "None": pl.Null(),
}


def value_columns(signature: Any, values: Sequence[Any]) -> list[pl.Series]:
    """The columns of a state's values, whose type has this signature.

    >>> [series.to_list() for series in value_columns("int", [1, 2])]
    [[1, 2]]
    >>> record = {"record": {"n": "int", "name": "str"}, "defaults": []}
    >>> pl.DataFrame(value_columns(record, [{"n": 1, "name": "a"}])).rows()
    [(1, 'a')]
    """
    match signature:
        case {"record": fields}:
            rows = cast("Sequence[Mapping[str, Any]]", values)
            return [
                column(name, inner, [row.get(name) for row in rows])
                for name, inner in cast("Mapping[str, Any]", fields).items()
            ]
        case _:
            return [column(VALUE, signature, values)]


def column(name: str, signature: Any, values: Sequence[Any]) -> pl.Series:
    """Values of one type as a column."""
    plain = [_plain(signature, value) for value in values]
    dtype = _dtype(signature)
    for wanted in dict.fromkeys((dtype, None)):
        try:
            return pl.Series(name, plain, dtype=wanted, strict=True)
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
            continue
    return pl.Series(name, [_text(value) for value in plain], dtype=pl.String)


def moments(name: str, times: Sequence[int]) -> pl.Series:
    """Microseconds since 1970 as a column of moments, clamped to the calendar.

    >>> moments("at", [0])[0].isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    held = [min(max(time, EARLIEST), LATEST) for time in times]
    return pl.Series(name, held, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


def stored_form(signature: Any, value: Any) -> Any:
    """A value of a frame in stored form: the inverse of `column`.

    >>> stored_form(["dict", "str", "int"], [{"key": "a", "value": 1}])
    {'a': 1}
    """
    if value is None:
        return None
    match signature:
        case "UUID":
            return UUID(value) if isinstance(value, str) else value
        case ["optional", inner]:
            return stored_form(inner, value)
        case ["list", inner]:
            return [stored_form(inner, each) for each in value]
        case ["tuple", inner, "..."]:
            return tuple(stored_form(inner, each) for each in value)
        case ["dict", key, inner] if isinstance(value, list):
            entries = cast("list[Mapping[str, Any]]", value)
            return {stored_form(key, each["key"]): stored_form(inner, each["value"]) for each in entries}
        case {"record": fields} if isinstance(value, dict):
            known = cast("Mapping[str, Any]", fields)
            given = cast("Mapping[str, Any]", value)
            return {name: stored_form(known.get(name), part) for name, part in given.items()}
        case ["tuple", *inner] if isinstance(value, dict):
            parts = cast("Mapping[str, Any]", value)
            return tuple(stored_form(each, parts.get(str(at))) for at, each in enumerate(inner))
        case _:
            return value


def _dtype(signature: Any) -> pl.DataType | None:
    """The Polars type of values of a type; None if only the values tell."""
    match signature:
        case str():
            return _SCALARS.get(signature)
        case ["optional", inner]:
            return _dtype(inner)
        case ["list", inner] | ["tuple", inner, "..."]:
            known = _dtype(inner)
            return None if known is None else pl.List(known)
        case ["dict", key, inner]:
            types = {"key": _dtype(key), "value": _dtype(inner)}
            return None if None in types.values() else pl.List(pl.Struct(cast("Any", types)))
        case {"record": fields}:
            types = {name: _dtype(inner) for name, inner in cast("Mapping[str, Any]", fields).items()}
            return None if None in types.values() or not types else pl.Struct(cast("Any", types))
        case ["tuple", *inner]:
            types = {str(at): _dtype(each) for at, each in enumerate(inner)}
            return None if None in types.values() or not types else pl.Struct(cast("Any", types))
        case _:
            return None


def _plain(signature: Any, value: Any) -> Any:
    """A value as Polars takes it: maps as lists of entries, tuples of different types as structs."""
    if value is None:
        return None
    match signature:
        case ["optional", inner]:
            return _plain(inner, value)
        case ["list", inner] | ["tuple", inner, "..."]:
            return [_plain(inner, each) for each in value]
        case ["dict", key, inner]:
            return [{"key": _plain(key, k), "value": _plain(inner, v)} for k, v in value.items()]
        case {"record": fields}:
            typed = cast("Mapping[str, Any]", fields)
            return {name: _plain(inner, value.get(name)) for name, inner in typed.items()}
        case ["tuple", *inner]:
            each = zip(inner, value, strict=False)
            return {str(at): _plain(of, part) for at, (of, part) in enumerate(each)}
        case _:
            return _scalar(value)


def _scalar(value: Any) -> Any:
    match value:
        case UUID():
            return str(value)
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC)
        case _:
            return value


def _text(value: Any) -> str | None:
    """A value that no column type holds, as JSON text."""
    return None if value is None else value if isinstance(value, str) else json.dumps(value, default=_written)


def _written(value: Any) -> Any:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)
