"""Casts of a table's columns to the types of a schema, without any change of a value."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import polars as pl

from streamflow.errors import RecordError
from streamflow.operators.connectors.files.formats.wire_types import (
    AS_TEXT,
    INFINITY,
    convert_where_possible,
    fields_of,
    inner_of,
    shown,
)
from streamflow.operators.connectors.text_columns import as_text_carries

__all__ = ["cast_exactly", "castable"]

_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException, RecordError)
_TEXT = (pl.String, pl.Enum, pl.Categorical)


def castable(held: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether some values of one type can be read as the other. An integer is no time, no duration and no boolean:
    its unit would be a guess.

    >>> castable(pl.Float64(), pl.Int8()), castable(pl.Int64(), pl.Datetime())
    (True, False)
    """
    if isinstance(held, (pl.List, pl.Array)) and isinstance(wanted, (pl.List, pl.Array)):
        return _castable_inside(inner_of(held), inner_of(wanted))
    if isinstance(held, pl.Struct) and isinstance(wanted, pl.Struct):
        there = fields_of(held)
        return all(
            name not in there or _castable_inside(there[name], dtype)
            for name, dtype in fields_of(wanted).items()
        )
    if held == wanted or isinstance(held, pl.Null):
        return True
    if isinstance(wanted, pl.String):
        return not (held.is_nested() or isinstance(held, (pl.Duration, pl.Object)))
    if isinstance(held, _TEXT):
        return wanted.is_numeric() or isinstance(wanted, (*_TEXT, pl.Binary, *AS_TEXT))
    if held.is_numeric():
        return wanted.is_numeric()
    days = (pl.Datetime, pl.Date)
    return any(
        isinstance(held, kinds) and isinstance(wanted, kinds) for kinds in (days, pl.Duration, pl.Time)
    )


def _castable_inside(held: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether `castable` holds within lists and structs, where times become no text, text and floats no times and
    decimals, and choices no numbers."""
    if isinstance(wanted, pl.String) and isinstance(held, AS_TEXT[:-1]):
        return False
    if isinstance(wanted, AS_TEXT) and (isinstance(held, _TEXT) or held.is_float()):
        return False
    if isinstance(held, _TEXT[1:]) and not isinstance(wanted, _TEXT):
        return False
    return castable(held, wanted)


def cast_exactly(
    frame: pl.DataFrame, wanted: Mapping[str, pl.DataType]
) -> tuple[pl.DataFrame, dict[int, str]]:
    """The frame with these types and all its rows, and error texts by row for values that do not fit.

    >>> cast_exactly(pl.DataFrame({"n": [1.0, 1.5]}), {"n": pl.Int64()})[1]
    {1: "column 'n' holds 1.5, which is no Int64"}
    """
    problems: dict[int, str] = {}
    columns: dict[str, pl.Series] = {}
    for name, dtype in wanted.items():
        held = frame[name]
        if held.dtype == dtype:
            columns[name] = held
            continue
        typed, bad = _cast(held, dtype)
        columns[name] = typed
        for row in bad:
            problems.setdefault(row, f"column {name!r} holds {shown(held, row)}, which is no {dtype}")
    return pl.DataFrame(columns), problems


def _cast(held: pl.Series, wanted: pl.DataType) -> tuple[pl.Series, list[int]]:
    typed = _halfwise(held, wanted)
    return typed, _changed(held, typed).arg_true().to_list()


def _halfwise(held: pl.Series, wanted: pl.DataType) -> pl.Series:
    """The column with null for values that do not fit. One value, as of a list too long for an array, may fail the
    cast of all."""
    try:
        if isinstance(wanted, pl.Decimal) and held.dtype.is_float():
            held = _written_out(held)
        if isinstance(held.dtype, _TEXT) and isinstance(wanted, AS_TEXT):
            texts = held.cast(pl.String).to_frame()
            return convert_where_possible(texts, {held.name: wanted})[held.name]
        if isinstance(wanted, pl.String):
            held = as_text_carries(held.to_frame())[held.name]
        return held.cast(wanted, strict=False)
    except _FAILURES:
        if len(held) == 1:
            return pl.Series(held.name, [None], dtype=wanted)
        middle = len(held) // 2
        return pl.concat([_halfwise(held[:middle], wanted), _halfwise(held[middle:], wanted)])


def _written_out(floats: pl.Series) -> pl.Series:
    """Floats as text without an exponent: Polars' cast makes 0.99…9 of 1.0 in a decimal with many places."""
    texts = floats.cast(pl.String)
    with_exponents = floats.filter(texts.str.contains("e"))
    written = [
        f"{Decimal(value if value.is_integer() else repr(value)):f}" for value in with_exponents.to_list()
    ]
    return texts.replace(with_exponents.cast(pl.String), pl.Series(written, dtype=pl.String))


def _changed(held: pl.Series, typed: pl.Series) -> pl.Series:
    """A mask of changed values. A float that is rounded to a shorter one is meant to be; one that overflows is
    changed."""
    gone = typed.is_null() & held.is_not_null()
    if typed.dtype.is_float() and (held.dtype.is_float() or isinstance(held.dtype, _TEXT)):
        finite = held.is_finite() if held.dtype.is_float() else ~held.cast(pl.String).str.contains(INFINITY)
        return gone | (typed.is_infinite() & finite).fill_null(value=False)
    if isinstance(typed.dtype, _TEXT) or isinstance(held.dtype, _TEXT):
        return gone
    asked = held.cast(_asked_of(held.dtype, typed.dtype), strict=False)
    return gone | typed.cast(asked.dtype, strict=False).ne_missing(asked)


def _asked_of(held: pl.DataType, wanted: pl.DataType) -> pl.DataType:
    """The type without struct fields that were not asked for."""
    if isinstance(held, (pl.List, pl.Array)) and isinstance(wanted, (pl.List, pl.Array)):
        return pl.List(_asked_of(inner_of(held), inner_of(wanted)))
    if isinstance(held, pl.Struct) and isinstance(wanted, pl.Struct):
        asked = fields_of(wanted)
        return pl.Struct(
            {n: _asked_of(dtype, asked[n]) for n, dtype in fields_of(held).items() if n in asked}
        )
    return held
