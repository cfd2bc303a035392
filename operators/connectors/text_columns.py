"""Columns as text carries them: times as ISO 8601 in UTC, durations as integers in the column's unit."""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = ["as_text_carries"]

_UTC_TIME: Final = "%Y-%m-%dT%H:%M:%S%.fZ"


def as_text_carries(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its times as `2013-01-01T05:17:00Z` and its durations as integers.

    >>> as_text_carries(pl.DataFrame({"t": [0]}, schema={"t": pl.Datetime("us", "UTC")})).rows()
    [('1970-01-01T00:00:00Z',)]
    """
    changed: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.Datetime):
            utc = column if dtype.time_zone in (None, "UTC") else column.dt.convert_time_zone("UTC")
            changed.append(utc.dt.to_string(_UTC_TIME))
        elif isinstance(dtype, pl.Duration):
            changed.append(column.cast(pl.Int64))
    return frame.with_columns(changed) if changed else frame
