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

from streamflow.errors import RecordError
from streamflow.records.copies import UNCHANGING, own_value
from streamflow.time.timestamps import EARLIEST, LATEST

__all__ = ["calls_with", "calls_with_rows", "row_dicts", "too_fine"]

_WIDEST = 64
_MICROS = {"us": 1, "ms": 1_000}

Function = Callable[[Any], Any]
Build = Callable[[Sequence[str], Sequence[Sequence[Any]]], Iterator[dict[str, Any]]]
Calls = Callable[[], None]


def row_dicts(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of a frame as dicts. A time beyond the year 9999, where Python's datetime ends, is its last moment: such
    is the end of a window of the year's last days. Raises RecordError for what `too_fine` names.

    >>> list(row_dicts(pl.DataFrame({"k": ["a", "b"], "v": [1, 2]})))
    [{'k': 'a', 'v': 1}, {'k': 'b', 'v': 2}]
    """
    frame = _in_calendar(frame)
    width = frame.width
    if width == 0 or width > _WIDEST:
        return iter(frame.to_dicts())
    return _builder(width)(frame.columns, [column.to_list() for column in frame])


def calls_with_rows(
    frame: pl.DataFrame, functions: Sequence[Function], results: Sequence[list[Any]], *, own: bool = False
) -> Calls:
    """Calls each function with each row, and appends what it gives to the list of that function. An error of a function
    comes out; called again, it goes on behind the row of the error. `own`: a result that could be changed is copied, as
    a function may give the same list each time. Raises RecordError for what `too_fine` names.

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


def too_fine(frame: pl.DataFrame) -> dict[int, RecordError]:
    """By position, the rows that hold a time or duration finer than the microseconds of Python's, which would cut it.

    >>> frame = pl.DataFrame({"t": [1_000, 1_001]}, schema={"t": pl.Duration("ns")})
    >>> [error.message for error in too_fine(frame).values()]
    ["column 't' holds PT0.000001001S, finer than Python's microseconds"]
    """
    found: dict[int, RecordError] = {}
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if not _in_nanoseconds(dtype) or not _finer(frame[name]):
            continue
        for row in range(frame.height):
            if row not in found and _finer(frame[name][row : row + 1]):
                record = {other: _shown(frame[other], row) for other in frame.columns}
                found[row] = RecordError(
                    f"column {name!r} holds {record[name]}, finer than Python's microseconds",
                    record=record,
                    hint="cut it before with .dt.cast_time_unit('us'); frame() and files keep all digits",
                )
    return found


def _in_nanoseconds(dtype: Any) -> bool:
    if isinstance(dtype, (pl.List, pl.Array)):
        return _in_nanoseconds(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return any(_in_nanoseconds(field.dtype) for field in dtype.fields)
    return dtype == pl.Time or (isinstance(dtype, (pl.Datetime, pl.Duration)) and dtype.time_unit == "ns")


def _finer(values: pl.Series) -> bool:
    """Whether there is a value of less than a microsecond, at any depth."""
    dtype = values.dtype
    if isinstance(dtype, (pl.List, pl.Array)):
        return _finer(values.explode())
    if isinstance(dtype, pl.Struct):
        return any(_finer(values.struct.field(field.name)) for field in dtype.fields)
    return _in_nanoseconds(dtype) and bool((values.to_physical() % 1_000 != 0).any())


def _shown(values: pl.Series, row: int) -> Any:
    value = values[row : row + 1]
    return value.dt.to_string("iso")[0] if value.dtype.is_temporal() else value[0]


def _in_calendar(frame: pl.DataFrame) -> pl.DataFrame:
    beyond: list[pl.Expr] = []
    # A frame's `schema` costs as much as a small batch.
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if isinstance(dtype, pl.Datetime) and dtype.time_unit != "ns":
            scale = _MICROS[dtype.time_unit]
            low, high = EARLIEST // scale, LATEST // scale
            counts = frame[name].to_physical()
            smallest, largest = counts.min(), counts.max()
            if smallest is not None and (smallest < low or largest > high):  # type: ignore[operator]
                beyond.append(pl.col(name).to_physical().clip(low, high).cast(dtype))
        elif _in_nanoseconds(dtype) and _finer(frame[name]):
            raise next(iter(too_fine(frame).values()))
    return frame.with_columns(beyond) if beyond else frame


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
