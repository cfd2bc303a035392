"""Partition folders as Hive has them: `origin=JFK/day=2013-01-01/`, the value escaped so that it stays one name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

import polars as pl

from streamflow.time.timestamps import format_time, to_micros

__all__ = ["folder_of", "partitioned"]

_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


def partitioned(frame: pl.DataFrame, by: Sequence[str]) -> Iterator[tuple[str, pl.DataFrame]]:
    """(folder, its rows without the columns that the folder tells); one folder "" where there are no such columns."""
    if not by:
        yield "", frame
        return
    for values, part in frame.partition_by(*by, as_dict=True, include_key=False, maintain_order=True).items():
        yield folder_of(by, values), part


def folder_of(names: Sequence[str], values: Sequence[object]) -> str:
    """The folder of one combination of values.

    >>> folder_of(["origin", "via"], ["../etc", None])
    'origin=..%2Fetc/via=__HIVE_DEFAULT_PARTITION__'
    """
    return "/".join(
        f"{quote(name, safe='')}={_text(value)}" for name, value in zip(names, values, strict=True)
    )


def _text(value: object) -> str:
    if value is None:
        return _NULL
    if isinstance(value, datetime):
        return quote(format_time(to_micros(value)), safe="")
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(str(value), safe="")
