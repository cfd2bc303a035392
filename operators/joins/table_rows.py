"""The rows of a table: of each key the last one counts, and a row may say that its key is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from streamflow.state.frames.store import FrameStore

__all__ = ["DELETED", "deleted", "last_of_each", "make_current", "standing"]

DELETED: Final = "\x1adeleted"
"""A boolean column of a table's rows that says that its key has no row from then on."""


def deleted(rows: pl.DataFrame) -> pl.Series:
    """Whether each row says that its key is gone."""
    if DELETED in rows.columns:
        return rows[DELETED].fill_null(False)
    return pl.Series([False]).new_from_index(0, rows.height)


def standing(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that do not say that their key is gone."""
    return rows.filter(~deleted(rows)) if DELETED in rows.columns else rows


def last_of_each(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The last row of each key.

    >>> last_of_each(pl.DataFrame({"k": ["a", "b", "a"], "n": [1, 2, 3]}), ["k"]).rows()
    [('b', 2), ('a', 3)]
    """
    return rows.unique(keys, keep="last", maintain_order=True)


def make_current(store: FrameStore, pane: int, rows: pl.DataFrame, keys: Sequence[str]) -> None:
    """Makes the last row of each key the one that a store has, or removes its row if its key is gone."""
    last = last_of_each(rows, keys)
    store.remove(pane, last)
    kept = standing(last)
    if kept.height:
        store.append(pane, kept)
