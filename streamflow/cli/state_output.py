"""The states in a checkpoint: SQL over them, answered by Polars; frames in a terminal, as JSON, and in files."""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import base64
import json
import math
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from streamflow.errors import ConfigError, StreamflowError

if TYPE_CHECKING:
    from streamflow.savepoints.reading import SavedState

__all__ = ["answer", "check_target", "shown", "write"]

_READING: Final = re.compile(
    r"""(?<!\w) ((?:read|scan)_\w+) [\s"`\]]* (?:\( | /\* | -- | \#)""", re.IGNORECASE | re.VERBOSE
)
"""A call of a table function; a comment may stand before its arguments."""


def answer(saved: SavedState, query: str, operator: str | None) -> pl.DataFrame:
    """The result of a query over tables named like the states (a dash may be written as _), and "operator.state".

    Only the states in the query are read. SQL's table functions (read_csv, …) are refused: they could read any file.
    Raises ConfigError for a query that cannot be answered.
    """
    tables = _tables(saved, operator)
    _refuse_reading(query, tables)
    named = {name: place for name, place in tables.items() if name in query}
    read = {place: saved.frame(*place) for place in set(named.values())}
    try:
        return pl.SQLContext({name: read[place] for name, place in named.items()}, eager=True).execute(query)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ConfigError(
            f"the query cannot be answered: {error}", hint=f"there are the tables {', '.join(tables) or '–'}"
        ) from error


def _refuse_reading(query: str, tables: Mapping[str, tuple[str, str]]) -> None:
    # With any names of states, anywhere in the query: only Polars' parser knows the text within quotes.
    for name in _READING.findall(query):
        raise ConfigError(
            f"the query cannot be answered: {name} reads files",
            hint=f"a query is over the tables {', '.join(tables) or '–'} and nothing else",
        )


def _tables(saved: SavedState, operator: str | None) -> Mapping[str, tuple[str, str]]:
    """(operator, state) by the names that a query may use."""
    chosen = saved.operators.values() if operator is None else [saved.operator(operator)]
    places = [(each.id, state) for each in chosen for state in each.states]
    names = [state for _, state in places]
    tables: dict[str, tuple[str, str]] = {}
    for id, state in places:
        if names.count(state) == 1:
            tables[state] = tables[state.replace("-", "_")] = (id, state)
        tables[f"{id}.{state}"] = (id, state)
    return tables


_SUFFIXES: Final = (".parquet", ".csv", ".ndjson")
_ROWS: Final = 40
_TEXT: Final = 60


def check_target(path: str) -> None:
    """Raises ConfigError for a file whose suffix names no format."""
    if Path(path).suffix not in _SUFFIXES:
        raise ConfigError(f"{path!r} names no format", hint=f"end it in {', '.join(_SUFFIXES)}")


def write(frame: pl.DataFrame, path: str) -> None:
    """Writes a frame in the format of the path's suffix. Raises StreamflowError if that is impossible."""
    try:
        match Path(path).suffix:
            case ".parquet":
                frame.write_parquet(path)
            case ".csv":
                _flat(frame).write_csv(path)
            case _:
                _texts(frame).write_ndjson(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StreamflowError(
            f"cannot write {path}: {error}", hint="check the folder and its free space"
        ) from error


def shown(frames: Mapping[str, pl.DataFrame], *, as_json: bool) -> str:
    """Frames as tables, or their rows as JSON: a list for the one without a name, else an object by name."""
    if as_json:
        rows = {name: frame.rows(named=True) for name, frame in frames.items()}
        return _json(rows.get("", rows))
    width = shutil.get_terminal_size().columns
    empty = [name for name, frame in frames.items() if name and frame.is_empty()]
    with pl.Config(tbl_rows=_ROWS, tbl_cols=-1, fmt_str_lengths=_TEXT, tbl_width_chars=width):
        tables = [
            f"{name}\n{frame}" if name else str(frame) for name, frame in frames.items() if name not in empty
        ]
    return "\n\n".join([*tables, f"nothing in {', '.join(empty)}"] if empty else tables)


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame for CSV, which has no lists and no bytes: they become JSON and base64."""
    frame = _texts(frame)
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    return frame.with_columns(
        pl.Series(
            name,
            [None if value is None else _json(value) for value in frame[name].to_list()],
            dtype=pl.String,
        )
        for name in nested
    )


def _texts(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(pl.Binary).bin.encode("base64"))


def _json(value: Any) -> str:
    """A value for JSON, which has neither NaN nor infinity: both are null, as in files."""
    return json.dumps(_finite(value), default=_plain, allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {name: _finite(each) for name, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case _:
            return value


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return str(value)
