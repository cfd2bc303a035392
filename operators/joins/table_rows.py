"""The rows of a table: of each key the last one counts, and a row may say that its key is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from streamflow.core.membership import without_null_keys
from streamflow.core.plain_keys import are_plain

if TYPE_CHECKING:
    from streamflow.observe.registry import OperatorMetrics
    from streamflow.state.frames.store import FrameStore

__all__ = ["DELETED", "KeyedRows", "deleted", "last_of_each", "make_current", "standing"]

DELETED: Final = "\x1adeleted"
"""A boolean column of a table's rows that says that its key has no row from then on."""


class KeyedRows:
    """The rows of a table that have a key. The others are no rows of it, and are counted: those that every subtask
    sees, by the first one alone."""

    def __init__(self, keys: Sequence[str], metrics: OperatorMetrics, *, counting: bool = True) -> None:
        self._keys = keys
        self._counting = counting
        self._keyless = metrics.counter(
            "streamflow_table_rows_without_key_total",
            "Rows of a table of which a key is null, which are no rows of it",
        )

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Those of the rows none of whose keys is null."""
        keyed = without_null_keys(rows, self._keys)
        if self._counting:
            self._keyless.add(rows.height - keyed.height)
        return keyed


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
    if len(keys) == 1 and are_plain([rows[keys[0]].dtype]):
        return rows.filter(rows[keys[0]].is_last_distinct())  # a quarter of the time
    return rows.unique(keys, keep="last", maintain_order=True)


def make_current(store: FrameStore, pane: int, last: pl.DataFrame) -> None:
    """Makes the one row of each key that which a store has, or removes the key's row if it is gone. The store merges
    by `last_of_each`, so a row needs no mark to take the place of an older one."""
    gone = deleted(last)
    if gone.any():
        store.remove(pane, last.filter(gone))
        last = last.filter(~gone)
    if last.height:
        store.append(pane, last)
