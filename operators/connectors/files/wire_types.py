"""How column types travel in text: what a parser is asked for, and how that becomes the type the schema wants.

JSON and CSV carry times as ISO 8601 in UTC, durations as integers in the type's unit. Polars parses plain numbers and
text at full speed; times are read as text and converted in one vectorised step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import polars as pl

from streamflow.errors import JobDefinitionError, cut
from streamflow.operators.connectors.files.formats import FileFormat

__all__ = ["convert", "convert_where_possible", "misfits", "wire_types", "without_rows"]

_JSON_WIDER: Final = (pl.Int8, pl.Int16, pl.UInt8, pl.UInt16)
# RFC 3339, any offset: chrono reads it in half the time that a spelt-out format takes.
_TIME: Final = "%+"
_ZONED_TIME: Final = "%Y-%m-%dT%H:%M:%S%.f%#z"
_PLAIN_TIMES: Final = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def wire_types(schema: Mapping[str, pl.DataType], format: FileFormat) -> dict[str, pl.DataType]:
    """The types to ask the parser for; raises JobDefinitionError for a column that the format cannot carry."""
    return {name: _wire_type(name, dtype, format) for name, dtype in schema.items()}


def _wire_type(name: str, dtype: pl.DataType, format: FileFormat) -> pl.DataType:
    if dtype.is_(pl.Binary) or dtype.is_(pl.Object) or (format == "csv" and dtype.is_nested()):
        raise JobDefinitionError(
            f"column {name!r}: {format} cannot carry {dtype}", hint="read it as sf.String"
        )
    if isinstance(dtype, (pl.Datetime, pl.Date, pl.Time)):
        return pl.String()
    if isinstance(dtype, pl.Duration):
        return pl.Int64()
    if format == "ndjson" and isinstance(dtype, _JSON_WIDER):
        return pl.Int64()
    if format == "ndjson" and isinstance(dtype, pl.Decimal):
        return pl.String()
    return dtype


def convert(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """A parsed frame with the schema's types and column order; raises a PolarsError for a value that does not fit."""
    wanted = [_strict(name, dtype) for name, dtype in schema.items() if frame.schema[name] != dtype]
    if wanted:
        try:
            frame = frame.with_columns(wanted)
        except pl.exceptions.PolarsError:
            before, frame = frame, convert_where_possible(frame, schema)
            for name in schema:
                if before[name].null_count() != frame[name].null_count():
                    raise
    return frame if frame.columns == list(schema) else frame.select(list(schema))


def convert_where_possible(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The same with null for a value that does not fit."""
    return frame.select(
        _lenient(name, dtype) if frame.schema[name] != dtype else pl.col(name)
        for name, dtype in schema.items()
    )


def misfits(wire: pl.DataFrame, typed: pl.DataFrame) -> dict[int, str]:
    """By row, what is wrong with values that became null on the way from `wire` to `typed`."""
    found: dict[int, str] = {}
    for name, dtype in typed.schema.items():
        lost = typed[name].is_null() & wire[name].is_not_null()
        for row in lost.arg_true().to_list():
            found.setdefault(row, f"column {name!r} holds {cut(wire[name][row], 60)}, which is no {dtype}")
    return found


def without_rows(frame: pl.DataFrame, rows: Iterable[int]) -> pl.DataFrame:
    """The frame without these rows, given by index."""
    return frame.filter(~pl.int_range(pl.len()).is_in(list(rows)))


def _strict(name: str, dtype: pl.DataType) -> pl.Expr:
    """The conversion for values written as this project writes them, and as most others do."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        utc = column.str.to_datetime(_TIME, time_unit=dtype.time_unit)
        return _zone(utc.dt.replace_time_zone(None), dtype)
    if isinstance(dtype, pl.Date):
        return column.str.to_date("%Y-%m-%d")
    if isinstance(dtype, pl.Time):
        return column.str.to_time("%H:%M:%S%.f")
    return column.cast(dtype)


def _lenient(name: str, dtype: pl.DataType) -> pl.Expr:
    """The same and everything else that ISO 8601 allows: a space, no time zone (UTC), no seconds."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        text = column.str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T")
        known = column.str.to_datetime(_TIME, time_unit=dtype.time_unit, strict=False)
        zoned = text.str.to_datetime(_ZONED_TIME, time_unit=dtype.time_unit, time_zone="UTC", strict=False)
        plain = [text.str.to_datetime(form, time_unit=dtype.time_unit, strict=False) for form in _PLAIN_TIMES]
        return _zone(pl.coalesce(pl.coalesce(known, zoned).dt.replace_time_zone(None), *plain), dtype)
    if isinstance(dtype, pl.Date):
        return column.str.to_date("%Y-%m-%d", strict=False)
    if isinstance(dtype, pl.Time):
        return pl.coalesce(
            column.str.to_time("%H:%M:%S%.f", strict=False), column.str.to_time("%H:%M", strict=False)
        )
    return column.cast(dtype, strict=False)


def _zone(naive_utc: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    if dtype.time_zone is None:
        return naive_utc
    utc = naive_utc.dt.replace_time_zone("UTC")
    return utc if dtype.time_zone == "UTC" else utc.dt.convert_time_zone(dtype.time_zone)
