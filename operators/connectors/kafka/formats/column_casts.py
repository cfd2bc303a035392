"""Columns of known types as the columns of a schema, without any change of a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.schema import Schema

__all__ = ["cast_exactly", "castable", "projected", "resolved"]

_TEXT: Final = (pl.String, pl.Categorical, pl.Enum)


def castable(held: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether values of one type may be read as the other; single ones may still not fit.

    >>> castable(pl.Int64(), pl.Int8()), castable(pl.String(), pl.Int8())
    (True, False)
    """
    if held == wanted or isinstance(held, pl.Null):
        return True
    if held.is_integer():
        return wanted.is_integer() or wanted.is_float() or isinstance(wanted, (pl.Decimal, pl.Duration))
    if held.is_float():
        return wanted.is_float()
    if isinstance(held, pl.Decimal):
        return isinstance(wanted, pl.Decimal)
    if isinstance(held, _TEXT):
        return isinstance(wanted, _TEXT)
    if isinstance(held, (pl.List, pl.Array)) and isinstance(wanted, (pl.List, pl.Array)):
        return castable(held.inner, wanted.inner)  # type: ignore[arg-type]
    if isinstance(held, pl.Struct) and isinstance(wanted, pl.Struct):
        there = {field.name: field.dtype for field in held.fields}
        return [field.name for field in wanted.fields] == list(there) and all(
            castable(there[field.name], field.dtype)  # type: ignore[arg-type]
            for field in wanted.fields
        )
    return isinstance(held, (pl.Datetime, pl.Duration)) and type(held) is type(wanted)


def cast_exactly(frame: pl.DataFrame, schema: Schema, *, strict: bool = True) -> pl.DataFrame:
    """The schema's columns: a missing one is null, others are cast. Raises ValueError for a type that does not fit,
    a PolarsError for a value that does not fit; unless `strict`, such a value is null.

    >>> cast_exactly(pl.DataFrame({"n": [1]}, schema={"n": pl.Int8}), Schema({"n": pl.Int64, "s": pl.String})).rows()
    [(1, None)]
    """
    chosen: list[pl.Expr] = []
    for name, wanted in schema.items():
        if name not in frame.columns:
            chosen.append(pl.lit(None, dtype=wanted).alias(name))
            continue
        held = frame[name].dtype
        if held == wanted:
            chosen.append(pl.col(name))
        elif not castable(held, wanted):
            raise ValueError(f"column {name!r} is {held} where {wanted} was expected")
        elif isinstance(wanted, pl.Datetime) and isinstance(held, pl.Datetime):
            chosen.append(_same_instant(pl.col(name), held, wanted))
        else:
            chosen.append(pl.col(name).cast(wanted, strict=strict))
    # A frame of literals has one row; as a part of the frame they have as many as it has.
    return frame.with_columns(chosen).select(list(schema))


def _same_instant(column: pl.Expr, held: pl.Datetime, wanted: pl.Datetime) -> pl.Expr:
    """A time without a zone counts as UTC."""
    utc = column.dt.replace_time_zone("UTC") if held.time_zone is None else column
    if wanted.time_zone is None:
        utc = utc.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    else:
        utc = utc.dt.convert_time_zone(wanted.time_zone)
    return utc.dt.cast_time_unit(wanted.time_unit)


def resolved(schema: Schema) -> Schema:
    """The schema with instances of types at all depths: `pl.List(pl.Int64)` holds a class.

    >>> isinstance(resolved(Schema({"l": pl.List(pl.Int64)}))["l"].inner, pl.Int64)
    True
    """
    return Schema(schema.empty(timed=False).schema)


def projected(schema: Schema, columns: Sequence[str] | None) -> Schema:
    """The columns that are read; one column if none is read, since rows have to be counted.

    >>> projected(Schema({"n": int, "s": str}), ["s"]), projected(Schema({"n": int, "s": str}), [])
    (Schema(s: String), Schema(n: Int64))
    """
    if columns is None:
        return schema
    chosen = {name: dtype for name, dtype in schema.items() if name in columns}
    return Schema(chosen or dict(list(schema.items())[:1]))
