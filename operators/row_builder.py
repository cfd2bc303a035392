"""Rows out of columns: a dict per row, made one at a time.

For four columns `dict(zip(names, row))` and `DataFrame.to_dicts()` take half as long again as a dict display. A display
has a fixed number of entries, so its code is made once for each number of columns, out of nothing but that number.
Rows that are dropped one by one are never all in memory, and cost the garbage collector nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import polars as pl

from streamflow.time.timestamps import EARLIEST, LATEST

__all__ = ["row_dicts"]

_WIDEST = 64
_MICROS = {"us": 1, "ms": 1_000}

Build = Callable[[Sequence[str], Sequence[Sequence[Any]]], Iterator[dict[str, Any]]]


def row_dicts(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of a frame as dicts. A time beyond the year 9999, where Python's datetime ends, is its last moment: such
    is the end of a window of the year's last days.

    >>> list(row_dicts(pl.DataFrame({"k": ["a", "b"], "v": [1, 2]})))
    [{'k': 'a', 'v': 1}, {'k': 'b', 'v': 2}]
    """
    frame = _in_calendar(frame)
    width = frame.width
    if width == 0 or width > _WIDEST:
        return iter(frame.to_dicts())
    return _builder(width)(frame.columns, [column.to_list() for column in frame])


def _in_calendar(frame: pl.DataFrame) -> pl.DataFrame:
    beyond: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        if isinstance(dtype, pl.Datetime) and dtype.time_unit != "ns":
            scale = _MICROS[dtype.time_unit]
            low, high = EARLIEST // scale, LATEST // scale
            counts = frame[name].to_physical()
            smallest, largest = counts.min(), counts.max()
            if smallest is not None and (smallest < low or largest > high):  # type: ignore[operator]
                beyond.append(pl.col(name).to_physical().clip(low, high).cast(dtype))
    return frame.with_columns(beyond) if beyond else frame


@cache
def _builder(width: int) -> Build:
    names = "".join(f"n{i}," for i in range(width))
    values = "".join(f"v{i}," for i in range(width))
    entries = ", ".join(f"n{i}: v{i}" for i in range(width))
    lines = (
        "def build(names, columns):",
        f"    {names} = names",
        f"    return ({{{entries}}} for {values} in zip(*columns))",
    )
    source = "\n".join(lines)
    namespace: dict[str, Build] = {}
    exec(source, {}, namespace)  # noqa: S102 — the text holds numbered names only
    return namespace["build"]
