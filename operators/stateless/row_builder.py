"""Rows out of columns: a dict per row, made one at a time, and functions called with them.

For four columns `dict(zip(names, row))` and `DataFrame.to_dicts()` take half as long again as a dict display, and a
generator between a row and the function that is called with it a quarter of the time of both. A display has a fixed
number of entries, so its code is generated once for each number of columns and functions, from these numbers alone.
Rows that are dropped one by one are never all in memory, and cost the garbage collector nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import polars as pl

from streamflow.core.copies import own_value
from streamflow.core.python_times import any_unheld, unheld
from streamflow.core.schema import EVENT_TIME_TYPE
from streamflow.core.sizes import UNCHANGING
from streamflow.time.timestamps import EARLIEST, LATEST

__all__ = ["calls_with", "calls_with_rows", "in_calendar", "row_dicts"]

_WIDEST = 64
_WINDOW = ("window_start", "window_end")

Function = Callable[[Any], Any]
Build = Callable[[Sequence[str], Sequence[Sequence[Any]]], Iterator[dict[str, Any]]]
Calls = Callable[[], None]


def row_dicts(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of a frame as dicts. Window bounds outside of Python's years become its first or last moment. Raises
    RecordError for another time that Python cannot hold.

    >>> list(row_dicts(pl.DataFrame({"k": ["a", "b"], "v": [1, 2]})))
    [{'k': 'a', 'v': 1}, {'k': 'b', 'v': 2}]
    """
    frame = in_calendar(frame)
    for error in unheld(frame).values():
        raise error
    width = frame.width
    if width == 0 or width > _WIDEST:
        return iter(frame.to_dicts())
    return _builder(width)(frame.columns, [column.to_list() for column in frame])


def calls_with_rows(
    frame: pl.DataFrame,
    functions: Sequence[Function],
    results: Sequence[list[Any]],
    types: Sequence[set[type]] | None = None,
) -> Calls:
    """Calls each function with each row, and appends the result to that function's list. An error of a function is
    raised; called again, the loop continues behind the row of the error. Python has to be able to hold all times.

    With `types`, mutable results are copied, as a function may return the same list each time, and the types of
    results are added to the function's set: one look at each result serves both.

    >>> names: list[str] = []
    >>> calls_with_rows(pl.DataFrame({"k": ["a", "b"]}), [lambda row: row["k"]], [names])()
    >>> names
    ['a', 'b']
    """
    frame = in_calendar(frame)
    width = frame.width
    if width == 0 or width > _WIDEST:
        return calls_with(frame.to_dicts(), functions, results, types)
    columns = zip(*(column.to_list() for column in frame), strict=True)
    call = _caller(len(functions), width, own=types is not None)
    return partial(call, frame.columns, columns, functions, results, types)


def calls_with(
    values: Iterable[Any],
    functions: Sequence[Function],
    results: Sequence[list[Any]],
    types: Sequence[set[type]] | None = None,
) -> Calls:
    """Calls each function with each value, like `calls_with_rows`."""
    call = _caller(len(functions), own=types is not None)
    return partial(call, (), iter(values), functions, results, types)


def in_calendar(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with window bounds clamped to Python's datetime; windows of the last days end behind it."""
    bounds = [name for name in _WINDOW if name in frame.columns and frame[name].dtype == EVENT_TIME_TYPE]
    beyond = [name for name in bounds if any_unheld(frame[name])]
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
    """The generated caller for rows of `width` columns; None for values that functions see as they are."""
    lines = [
        "def made(names, rows, functions, results, types):",
        f"    {_numbered('f', functions)} = functions",
        f"    {_numbered('r', functions)} = results",
    ]
    if own:
        lines += [
            f"    {_numbered('t', functions)} = types",
            f"    {_numbered('k', functions)} = {'None,' * functions}",
        ]
    if width is None:
        lines += ["    for row in rows:"]
    else:
        lines += [f"    {_numbered('n', width)} = names", f"    for {_numbered('v', width)} in rows:"]
        lines += [f"        row = {_display(width)}"]
    # A call in a loop of its own: `map` and `extend` take a StopIteration for the end.
    for i in range(functions):
        if own:
            lines += [
                f"        x = f{i}(row)",
                f"        if type(x) is not k{i}:",  # mostly the type is that of the result before
                f"            k{i} = type(x)",
                f"            t{i}.add(k{i})",
                f"            if k{i} not in UNCHANGING:",
                f"                x, k{i} = own_value(x), None",
                f"        r{i}.append(x)",
            ]
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
