"""Keys that are equal where Python says so: a few of them are gone over more quickly in Python than by a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

__all__ = ["FEW", "are_plain", "keys_as_objects", "occur_once"]

FEW: Final = 256
"""The number of rows up to which a loop in Python takes less time than a query."""
_PLAIN: Final = frozenset({pl.String(), pl.Binary(), pl.Boolean(), pl.Date()})


def are_plain(types: Sequence[pl.DataType]) -> bool:
    """Whether keys of these types are equal where Python says so: unlike floats, times finer than microseconds, and
    lists.

    >>> are_plain([pl.String(), pl.Int32()]), are_plain([pl.Float64()])
    (True, False)
    """
    return all(dtype in _PLAIN or dtype.is_integer() for dtype in types)


def keys_as_objects(frame: pl.DataFrame, columns: Sequence[str]) -> list[Any]:
    """The key of each row as a Python object: the value of the only column, or a tuple."""
    return frame[columns[0]].to_list() if len(columns) == 1 else frame[list(columns)].rows()


def occur_once(frame: pl.DataFrame, columns: Sequence[str]) -> bool:
    """Whether no key occurs in two rows of a frame: nulls equal each other, and so do NaNs.

    >>> occur_once(pl.DataFrame({"k": ["a", "b"]}), ["k"]), occur_once(pl.DataFrame({"k": ["a", "a"]}), ["k"])
    (True, False)
    """
    if len(columns) == 1:
        return frame[columns[0]].n_unique() == frame.height
    keys = frame[list(columns)]
    if frame.height <= FEW and are_plain(keys.dtypes):
        return len(set(keys_as_objects(keys, columns))) == frame.height
    return not keys.is_duplicated().any()
