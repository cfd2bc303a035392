"""Frames in a terminal, as JSON, and in files."""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import base64
import json
import math
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from streamflow.errors import ConfigError, StreamflowError

__all__ = ["check_target", "shown", "write"]

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
