"""Times that Python's own types cannot hold (finer than a microsecond, or outside the years 1 to 9999), and times too
far away for Polars to print."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import polars as pl

from streamflow.core.schema import EVENT_TIME, WATERMARK
from streamflow.core.struct_fields import field_columns
from streamflow.errors import RecordError, cut
from streamflow.time.timestamps import EARLIEST, LATEST

__all__ = ["any_unheld", "any_untold", "shown_record", "shown_row", "unheld", "unheld_rows"]

_MICROS: Final = {"us": 1, "ms": 1_000}
_DAY: Final = 86_400_000_000
_MOST_DAYS: Final = 999_999_999
_DAYS_IN_TEXT: Final = 94_900_000
"""Days from 1970 within which Polars prints a date, about 260,000 years. Polars panics some 300 years later."""
_TIMES: Final = (pl.Datetime, pl.Date, pl.Time, pl.Duration)


def unheld(frame: pl.DataFrame) -> dict[int, RecordError]:
    """Errors, by position, for rows with a time that Python cannot hold: finer than a microsecond, outside the years
    1 to 9999, or a duration of more than 999,999,999 days.

    >>> frame = pl.DataFrame({"t": [1_000, 1_001]}, schema={"t": pl.Duration("ns")})
    >>> [error.message for error in unheld(frame).values()]
    ["column 't' holds PT0.000001001S, which Python's times cannot hold (microseconds, the years 1 to 9999)"]
    """
    found: dict[int, RecordError] = {}
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if not (dtype.is_temporal() or dtype.is_nested()) or not any_unheld(frame[name]):
            continue
        for row in unheld_rows(frame[name]):
            if row not in found:
                record = shown_row(frame, row)
                found[row] = RecordError(
                    f"column {name!r} holds {cut(record[name], 60)}, which Python's times cannot hold "
                    "(microseconds, the years 1 to 9999)",
                    record=record,
                    hint="make it another value or type before, like .dt.cast_time_unit('us') or .dt.to_string()",
                )
    return found


def unheld_rows(values: pl.Series) -> list[int]:
    """The positions of values that Python cannot hold."""
    return [row for row in range(len(values)) if any_unheld(values[row : row + 1])]


def shown_record(frame: pl.DataFrame, row: int) -> dict[str, Any]:
    """The record of one row for a message, without the columns that operators have added."""
    added = [name for name in frame.columns if name in (EVENT_TIME, WATERMARK) or name.startswith("\x1a")]
    return shown_row(frame.drop(added), row)


def shown_row(frame: pl.DataFrame, row: int) -> dict[str, Any]:
    """One row for a message, with times that Python cannot hold as text."""
    return {name: _shown(frame[name][row : row + 1]) for name in frame.columns}


def _shown(value: pl.Series) -> Any:
    if not any_unheld(value):
        return value.to_list()[0]
    if any_untold(value):
        return f"a time more than {_DAYS_IN_TEXT:,} days from 1970"
    return (
        value.to_frame().write_ndjson().strip() if value.dtype.is_nested() else value.dt.to_string("iso")[0]
    )


def any_unheld(values: pl.Series) -> bool:
    """Whether Python cannot hold one of these values, at any depth."""
    return _any(values, _beyond_python)


def any_untold(values: pl.Series) -> bool:
    """Whether Polars cannot print one of these values, at any depth."""
    return _any(values, _beyond_text)


def _any(values: pl.Series, beyond: Callable[[pl.Series], bool]) -> bool:
    dtype = values.dtype
    if isinstance(dtype, (pl.List, pl.Array)):
        return _any(values.explode(), beyond)
    if isinstance(dtype, pl.Struct):
        return any(_any(field, beyond) for field in field_columns(values))
    return isinstance(dtype, _TIMES) and beyond(values)


def _beyond_text(values: pl.Series) -> bool:
    dtype = values.dtype
    if not isinstance(dtype, (pl.Date, pl.Datetime)) or getattr(dtype, "time_unit", "") == "ns":
        return False
    day = 1 if isinstance(dtype, pl.Date) else _DAY // _MICROS[getattr(dtype, "time_unit", "us")]
    return not values.to_physical().is_between(-_DAYS_IN_TEXT * day, _DAYS_IN_TEXT * day).all()


def _beyond_python(values: pl.Series) -> bool:
    dtype = values.dtype
    if isinstance(dtype, pl.Time) or getattr(dtype, "time_unit", "") == "ns":
        return bool((values.to_physical() % 1_000 != 0).any())
    if isinstance(dtype, pl.Datetime) and dtype.time_zone not in (None, "UTC"):
        values = values.dt.replace_time_zone(None)
    low, high = _bounds(dtype)
    counts = values.to_physical()
    smallest, largest = counts.min(), counts.max()
    return smallest is not None and bool(smallest < low or largest > high)  # type: ignore[operator]


def _bounds(dtype: pl.DataType) -> tuple[int, int]:
    """The smallest and the largest count (since 1970, or of a duration) that Python has a value for."""
    if isinstance(dtype, pl.Date):
        return EARLIEST // _DAY, LATEST // _DAY
    scale = _MICROS[getattr(dtype, "time_unit", "us")]
    if isinstance(dtype, pl.Duration):
        most = _MOST_DAYS * _DAY // scale
        return -most, most
    return EARLIEST // scale, LATEST // scale
