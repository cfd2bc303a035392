"""Column types in text: the type that a parser reads, and its conversion to the type that the schema wants.

JSON and CSV carry times as ISO 8601 in UTC, durations as integers in the type's unit. Polars parses plain numbers and
text at full speed; types that it would cut, wrap or refuse are read as something wider and converted by an expression
that gives null for a value that does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, cast

import polars as pl

from streamflow.core.python_times import shown_row
from streamflow.core.struct_fields import field_columns, field_expressions
from streamflow.errors import JobDefinitionError, cut
from streamflow.operators.connectors.bisection import halve
from streamflow.operators.connectors.files.formats.formats import FileFormat

__all__ = [
    "convert",
    "convert_where_possible",
    "deep_nulls",
    "fields_of",
    "holds_bytes",
    "inner_of",
    "is_finer",
    "misfits",
    "wire_types",
    "without_rows",
]

_TIMES: Final = (pl.Datetime, pl.Date, pl.Time)
AS_TEXT: Final = (*_TIMES, pl.Decimal)
"""The types that travel as text."""
INFINITY: Final = r"(?i)^\s*[+-]?inf(inity)?\s*$"
_JSON_AS_INT64: Final = (pl.Int8, pl.Int16, pl.UInt8, pl.UInt16, pl.Duration)
_Unit = Literal["ms", "us", "ns"]
_DIGITS: Final = {"ms": 3, "us": 6, "ns": 9}
_WHOLE_SECONDS: Final = len("2013-01-01T05:17:00Z")
_MOST_NANOSECONDS: Final = 2**63 - 1
_CHOICES: Final = (pl.Enum, pl.Categorical)
# RFC 3339, any offset: chrono reads it in half the time that a spelt-out format takes.
_TIME: Final = "%+"
_ZONED_TIMES: Final = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")
_PLAIN_TIMES: Final = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def wire_types(schema: Mapping[str, pl.DataType], format: FileFormat) -> dict[str, pl.DataType]:
    """The types that the parser reads; raises JobDefinitionError for a column that the format cannot carry."""
    for name, dtype in schema.items():
        if holds_bytes(dtype) or (format == "csv" and dtype.is_nested()):
            raise JobDefinitionError(
                f"column {name!r}: {format} cannot carry {dtype}", hint="read it as sf.String"
            )
    return {name: _wire_type(dtype, format) for name, dtype in schema.items()}


def holds_bytes(dtype: pl.DataType) -> bool:
    """Whether a type is one of bytes or of Python objects, or contains one, which text cannot carry."""
    if isinstance(dtype, (pl.List, pl.Array)):
        return holds_bytes(inner_of(dtype))
    if isinstance(dtype, pl.Struct):
        return any(map(holds_bytes, fields_of(dtype).values()))
    return isinstance(dtype, (pl.Binary, pl.Object))


def inner_of(dtype: pl.List | pl.Array) -> pl.DataType:
    """The type of the elements."""
    return _instance(dtype.inner)


def fields_of(dtype: pl.Struct) -> dict[str, pl.DataType]:
    """The types of the fields."""
    return {field.name: _instance(field.dtype) for field in dtype.fields}


def _instance(dtype: Any) -> pl.DataType:
    return cast(pl.DataType, dtype() if isinstance(dtype, type) else dtype)


def _wire_type(dtype: pl.DataType, format: FileFormat) -> pl.DataType:
    if isinstance(dtype, AS_TEXT):
        return pl.String()
    if isinstance(dtype, pl.Duration):
        return pl.Int64()
    if isinstance(dtype, pl.Float32 | pl.Float16):
        return pl.Float64()
    if isinstance(dtype, _CHOICES):
        return pl.String()
    if format != "ndjson":
        # The CSV parser ends at a column without a type.
        return pl.String() if isinstance(dtype, pl.Null) else dtype
    if isinstance(dtype, _JSON_AS_INT64):
        return pl.Int64()
    if isinstance(dtype, (pl.List, pl.Array)):
        # A list of another length than an array's is a panic in Polars' executor.
        return pl.List(_wire_type(inner_of(dtype), format))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({name: _wire_type(inner, format) for name, inner in fields_of(dtype).items()})
    return dtype


def convert(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """A parsed frame with the schema's types and column order; raises a PolarsError or ValueError for a value that does
    not fit."""
    held = dict(zip(frame.columns, frame.dtypes, strict=True))
    different = {name: dtype for name, dtype in schema.items() if held[name] != dtype}
    if not different:
        return frame if frame.columns == list(schema) else frame.select(list(schema))
    try:
        typed = frame.select(
            _converted(pl.col(name), dtype, strict=True).alias(name) if name in different else pl.col(name)
            for name, dtype in schema.items()
        )
    except pl.exceptions.PolarsError:
        typed = convert_where_possible(frame, schema)
    for name, dtype in different.items():
        if deep_nulls(typed[name]) != deep_nulls(frame[name]) or is_finer(frame[name], dtype):
            raise ValueError(f"column {name!r} holds a value that is no {dtype}")
    return typed


def convert_where_possible(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """`convert` with null for a value that does not fit."""
    return frame.select(
        _converted(pl.col(name), dtype, strict=False).alias(name)
        if frame[name].dtype != dtype
        else pl.col(name)
        for name, dtype in schema.items()
    )


def misfits(wire: pl.DataFrame, typed: pl.DataFrame) -> dict[int, str]:
    """Error texts by row for values that became null on the way from `wire` to `typed`, at any depth."""
    found: dict[int, str] = {}
    for name, dtype in typed.schema.items():
        before, after = wire[name], typed[name]
        if dtype.is_nested():
            rows = sorted(halve(range(len(after)), partial(_lost_below, before, after)))
        else:
            rows = (after.is_null() & before.is_not_null()).arg_true().to_list()
        for row in rows:
            finer = not dtype.is_nested() and is_finer(before[row : row + 1], dtype)
            why = (
                f"finer than {dtype}: pl.Datetime('ns') and text hold more digits" if finer else f"no {dtype}"
            )
            found.setdefault(row, f"column {name!r} holds {shown(before, row)}, which is {why}")
    return found


def _lost_below(before: pl.Series, after: pl.Series, rows: Sequence[int]) -> str | None:
    """Whether one of these consecutive rows has a new null, and then its text."""
    part = slice(rows[0], rows[-1] + 1)
    return None if deep_nulls(before[part]) == deep_nulls(after[part]) else "lost"


def shown(values: pl.Series, row: int) -> str:
    """One of the values as text for a message."""
    return cut(shown_row(values.to_frame(), row)[values.name], 60)


def deep_nulls(values: pl.Series) -> list[int]:
    """The number of nulls at each level of a column.

    >>> deep_nulls(pl.Series([[1, None], None, [None]]))
    [1, 2]
    """
    found = [values.null_count()]
    dtype = values.dtype
    if isinstance(dtype, pl.Array):
        values = values.arr.to_list()
    if isinstance(dtype, (pl.List, pl.Array)):
        there = values.drop_nulls()
        found += deep_nulls(there.filter(there.list.len() > 0).explode())
    elif isinstance(dtype, pl.Struct):
        for field in field_columns(values.drop_nulls()):
            found += deep_nulls(field)
    return found


def without_rows(frame: pl.DataFrame, rows: Iterable[int]) -> pl.DataFrame:
    """The frame without these rows, given by index."""
    return frame.filter(~pl.int_range(pl.len()).is_in(list(rows)))


def _converted(column: pl.Expr, dtype: pl.DataType, *, strict: bool) -> pl.Expr:
    """The conversion from the wire type. `strict`: the fast way for values as this project and most others write
    them, which may raise; else everything that fits by any reading, and null for the rest."""
    if isinstance(dtype, _TIMES):
        return _time(column, dtype, strict=strict)
    if isinstance(dtype, pl.Decimal):
        # A cast rounds values with more digits behind the point.
        digits = rf"^\s*[+-]?\d*(\.\d{{0,{dtype.scale}}}0*)?\s*$"
        return pl.when(column.str.contains(digits)).then(column.str.strip_chars()).cast(dtype, strict=strict)
    if isinstance(dtype, pl.Float32 | pl.Float16):
        narrow = column.cast(dtype)
        return pl.when(narrow.is_infinite() & column.is_finite()).then(None).otherwise(narrow)
    if isinstance(dtype, pl.Array):
        inner = column.list.eval(_converted(pl.element(), inner_of(dtype), strict=strict))
        return pl.when(inner.list.len() == dtype.shape[0]).then(inner).list.to_array(dtype.shape[0])
    if isinstance(dtype, pl.List):
        return column.list.eval(_converted(pl.element(), inner_of(dtype), strict=strict))
    if isinstance(dtype, pl.Struct):
        fields = [
            _converted(value, inner, strict=strict).alias(name)
            for name, inner, value in field_expressions(column, dtype)
        ]
        return pl.when(column.is_not_null()).then(pl.struct(fields))
    return column.cast(dtype, strict=strict)


def is_finer(texts: pl.Series, dtype: pl.DataType) -> bool:
    """Whether a text has more digits of a second than its type, which Polars would cut."""
    if isinstance(dtype, (pl.List, pl.Array)):
        return is_finer(texts.drop_nulls().explode(), inner_of(dtype))
    if isinstance(dtype, pl.Struct):
        inside = zip(field_columns(texts), fields_of(dtype).values(), strict=True)
        return any(is_finer(field, inner) for field, inner in inside)
    digits = _digits(dtype)
    # The shortest text with a fraction and a date is longer than most are without; a time of a day is rare.
    least = 0 if isinstance(dtype, pl.Time) else _WHOLE_SECONDS
    return digits is not None and bool(
        (texts.str.len_bytes() > least).any() and texts.str.contains(_more_than(digits)).any()
    )


def _digits(dtype: pl.DataType) -> int | None:
    """The number of digits of a second in a type; None if it is no time."""
    if isinstance(dtype, pl.Datetime):
        return _DIGITS[dtype.time_unit]
    return _DIGITS["ns"] if isinstance(dtype, pl.Time) else None


def _more_than(digits: int) -> str:
    return rf"\.\d{{{digits}}}\d*[1-9]"


def _time(column: pl.Expr, dtype: pl.DataType, *, strict: bool) -> pl.Expr:
    if not strict and (digits := _digits(dtype)) is not None:
        column = pl.when(~column.str.contains(_more_than(digits))).then(column)
    if isinstance(dtype, pl.Datetime):
        return _zone(_moment(column, dtype.time_unit, strict=strict), dtype)
    if isinstance(dtype, pl.Date):
        return column.str.to_date("%Y-%m-%d", strict=strict)
    if strict:
        return column.str.to_time("%H:%M:%S%.f")
    return pl.coalesce(
        column.str.to_time("%H:%M:%S%.f", strict=False), column.str.to_time("%H:%M", strict=False)
    )


def _moment(column: pl.Expr, unit: _Unit, *, strict: bool) -> pl.Expr:
    """Texts as times in UTC; null for a time that the unit cannot hold."""
    if unit == "us":
        return _read_moment(column, unit, strict=strict)
    fine = _read_moment(column, "us", strict=strict)
    if unit == "ms":
        whole = fine.dt.cast_time_unit("ms")
        return pl.when(whole.dt.cast_time_unit("us") == fine).then(whole)
    near = fine.to_physical().abs() <= _MOST_NANOSECONDS // 1_000
    return pl.when(near).then(_read_moment(column, unit, strict=strict))


def _read_moment(column: pl.Expr, unit: _Unit, *, strict: bool) -> pl.Expr:
    known = column.str.to_datetime(_TIME, time_unit=unit, strict=strict)
    if strict:
        return known.dt.replace_time_zone(None)
    # Also the other forms of ISO 8601: a space, no time zone (UTC), no seconds.
    text = column.str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T")
    zoned = [
        text.str.to_datetime(form, time_unit=unit, time_zone="UTC", strict=False) for form in _ZONED_TIMES
    ]
    plain = [text.str.to_datetime(form, time_unit=unit, strict=False) for form in _PLAIN_TIMES]
    return pl.coalesce(pl.coalesce(known, *zoned).dt.replace_time_zone(None), *plain)


def _zone(naive_utc: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    if dtype.time_zone is None:
        return naive_utc
    utc = naive_utc.dt.replace_time_zone("UTC")
    return utc if dtype.time_zone == "UTC" else utc.dt.convert_time_zone(dtype.time_zone)
