"""Rows out of columns: a dict per row, made one at a time, and functions called with them.

For four columns `dict(zip(names, row))` and `DataFrame.to_dicts()` take half as long again as a dict display, and a
generator between a row and the function that is called with it a quarter of the time of both. A display has a fixed
number of entries, so its code is made once for each number of columns (and of functions), out of nothing but those.
Rows that are dropped one by one are never all in memory, and cost the garbage collector nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import polars as pl

from streamflow.errors import RecordError, cut
from streamflow.records.copies import UNCHANGING, own_value
from streamflow.records.schema import EVENT_TIME_TYPE
from streamflow.time.timestamps import EARLIEST, LATEST

__all__ = ["calls_with", "calls_with_rows", "row_dicts", "shown_row", "unheld"]

_WIDEST = 64
_MICROS = {"us": 1, "ms": 1_000}
_DAY = 86_400_000_000
_MOST_DAYS = 999_999_999
_TIMES = (pl.Datetime, pl.Date, pl.Time, pl.Duration)
_WINDOW = ("window_start", "window_end")

Function = Callable[[Any], Any]
Build = Callable[[Sequence[str], Sequence[Sequence[Any]]], Iterator[dict[str, Any]]]
Calls = Callable[[], None]


def row_dicts(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of a frame as dicts. The bounds of a window beyond the years that Python's datetime has are its first or
    last moment. Raises RecordError for another time that is `unheld`.

    >>> list(row_dicts(pl.DataFrame({"k": ["a", "b"], "v": [1, 2]})))
    [{'k': 'a', 'v': 1}, {'k': 'b', 'v': 2}]
    """
    frame = _in_calendar(frame)
    for error in unheld(frame).values():
        raise error
    width = frame.width
    if width == 0 or width > _WIDEST:
        return iter(frame.to_dicts())
    return _builder(width)(frame.columns, [column.to_list() for column in frame])


def calls_with_rows(
    frame: pl.DataFrame, functions: Sequence[Function], results: Sequence[list[Any]], *, own: bool = False
) -> Calls:
    """Calls each function with each row, and appends what it gives to the list of that function. An error of a function
    comes out; called again, it goes on behind the row of the error. `own`: a result that could be changed is copied, as
    a function may give the same list each time. Times are those that Python can hold (`unheld`).

    >>> names: list[str] = []
    >>> calls_with_rows(pl.DataFrame({"k": ["a", "b"]}), [lambda row: row["k"]], [names])()
    >>> names
    ['a', 'b']
    """
    frame = _in_calendar(frame)
    width = frame.width
    if width == 0 or width > _WIDEST:
        return calls_with(frame.to_dicts(), functions, results, own=own)
    columns = zip(*(column.to_list() for column in frame), strict=True)
    return partial(_caller(len(functions), width, own=own), frame.columns, columns, functions, results)


def calls_with(
    values: Iterable[Any], functions: Sequence[Function], results: Sequence[list[Any]], *, own: bool = False
) -> Calls:
    """As `calls_with_rows`, with values as they are."""
    return partial(_caller(len(functions), own=own), (), iter(values), functions, results)


def unheld(frame: pl.DataFrame) -> dict[int, RecordError]:
    """By position, the rows with a time that Python's own cannot hold: it is finer than a microsecond, beyond the years
    1 to 9999, or a duration of more than 999,999,999 days.

    >>> frame = pl.DataFrame({"t": [1_000, 1_001]}, schema={"t": pl.Duration("ns")})
    >>> [error.message for error in unheld(frame).values()]
    ["column 't' holds PT0.000001001S, which Python's times cannot hold (microseconds, the years 1 to 9999)"]
    """
    found: dict[int, RecordError] = {}
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if not (dtype.is_temporal() or dtype.is_nested()) or not _beyond(frame[name]):
            continue
        column = frame[name]
        for row in range(frame.height):
            if row not in found and _beyond(column[row : row + 1]):
                record = shown_row(frame, row)
                found[row] = RecordError(
                    f"column {name!r} holds {cut(record[name], 60)}, which Python's times cannot hold "
                    "(microseconds, the years 1 to 9999)",
                    record=record,
                    hint="make it another value or type before, like .dt.cast_time_unit('us') or .dt.to_string()",
                )
    return found


def shown_row(frame: pl.DataFrame, row: int) -> dict[str, Any]:
    """One row for a message: times that Python cannot hold as text."""
    return {name: _shown(frame[name][row : row + 1]) for name in frame.columns}


def _shown(value: pl.Series) -> Any:
    if not _beyond(value):
        return value[0]
    return (
        value.to_frame().write_ndjson().strip() if value.dtype.is_nested() else value.dt.to_string("iso")[0]
    )


def _beyond(values: pl.Series) -> bool:
    """Whether one of these cannot be had as a Python value, at any depth."""
    dtype = values.dtype
    if isinstance(dtype, (pl.List, pl.Array)):
        return _beyond(values.explode())
    if isinstance(dtype, pl.Struct):
        return any(_beyond(values.struct.field(field.name)) for field in dtype.fields)
    if not isinstance(dtype, _TIMES):
        return False
    if isinstance(dtype, pl.Time) or getattr(dtype, "time_unit", "") == "ns":
        return bool((values.to_physical() % 1_000 != 0).any())
    if isinstance(dtype, pl.Datetime) and dtype.time_zone not in (None, "UTC"):
        values = values.dt.replace_time_zone(None)
    low, high = _bounds(dtype)
    counts = values.to_physical()
    smallest, largest = counts.min(), counts.max()
    return smallest is not None and bool(smallest < low or largest > high)  # type: ignore[operator]


def _bounds(dtype: pl.DataType) -> tuple[int, int]:
    """The smallest and the largest count since 1970, or of a duration, that Python has a value for."""
    if isinstance(dtype, pl.Date):
        return EARLIEST // _DAY, LATEST // _DAY
    scale = _MICROS[getattr(dtype, "time_unit", "us")]
    if isinstance(dtype, pl.Duration):
        most = _MOST_DAYS * _DAY // scale
        return -most, most
    return EARLIEST // scale, LATEST // scale


def _in_calendar(frame: pl.DataFrame) -> pl.DataFrame:
    """Windows of the last days that Python's datetime has end behind them: at their last moment, then."""
    bounds = [name for name in _WINDOW if name in frame.columns and frame[name].dtype == EVENT_TIME_TYPE]
    beyond = [name for name in bounds if _beyond(frame[name])]
    if not beyond:
        return frame
    return frame.with_columns(
        pl.col(name).to_physical().clip(EARLIEST, LATEST).cast(EVENT_TIME_TYPE) for name in beyond
    )


@cache
def _builder(width: int) -> Build:
    lines = (
        "def made(names, columns):",
        f"    {_numbered('n', width)} = names",
        f"    return ({_display(width)} for {_numbered('v', width)} in zip(*columns))",
    )
    made: Build = _made(lines)
    return made


@cache
def _caller(functions: int, width: int | None = None, *, own: bool) -> Callable[..., None]:
    """For rows of so many columns; None: for values that are what the functions see."""
    lines = [
        "def made(names, rows, functions, results):",
        f"    {_numbered('f', functions)} = functions",
        f"    {_numbered('r', functions)} = results",
    ]
    if width is None:
        lines += ["    for row in rows:"]
    else:
        lines += [f"    {_numbered('n', width)} = names", f"    for {_numbered('v', width)} in rows:"]
        lines += [f"        row = {_display(width)}"]
    # A call in a loop of its own: `map` and `extend` take a StopIteration for the end.
    for i in range(functions):
        if own:
            lines += [f"        x = f{i}(row)"]
            lines += [f"        r{i}.append(x if type(x) in UNCHANGING else own_value(x))"]
        else:
            lines += [f"        r{i}.append(f{i}(row))"]
    made: Callable[..., None] = _made(lines)
    return made


def _numbered(letter: str, count: int) -> str:
    return "".join(f"{letter}{i}," for i in range(count))


def _display(width: int) -> str:
    return f"{{{', '.join(f'n{i}: v{i}' for i in range(width))}}}"


def _made(lines: Sequence[str]) -> Any:
    namespace: dict[str, Any] = {}
    known = {"__name__": __name__, "UNCHANGING": UNCHANGING, "own_value": own_value}
    exec("\n".join(lines), known, namespace)  # noqa: S102 — the text holds numbered names only
    return namespace["made"]
