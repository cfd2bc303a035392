"""Changes of results that have one row of each key at most, all of whose changes come in order: told by keys alone.

The changes of a key are then a path: a row goes before the next one comes. Of several of them the net change is that
the row goes by which the first one goes, if it does, and that the one comes by which the last one comes: no other
columns are compared, which takes a tenth of the time of adding weights up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from streamflow.core.schema import CHANGE, CHANGE_TYPE

__all__ = ["net", "with_kinds"]

_SAME: Final = "\x1asame"


def net(key: str, weight: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A function that leaves of changes in order their net changes by a key of a plain type.

    It is associative, and what is left has the same sums of weights: zero, where a row goes and comes again.

    >>> changes = pl.DataFrame({"k": [1, 1, 1, 2, 2], "v": [5, 6, 6, 7, 7], "n": [-1, 1, -1, 1, -1]})
    >>> net("k", "n")(changes).rows()
    [(1, 5, -1)]
    """

    def merge(rows: pl.DataFrame) -> pl.DataFrame:
        keys, goes = rows[key], rows[weight] < 0
        if keys.is_sorted():
            new = keys.ne_missing(keys.shift(1))
            # The first row is one, whatever its key.
            first = new.scatter(0, True) if rows.height else new
            last = first.shift(-1, fill_value=True)
        else:
            first, last = keys.is_first_distinct(), keys.is_last_distinct()
        left = first.zip_with(goes, last)
        return rows if left.all() else rows.filter(left)

    return merge


def with_kinds(rows: pl.DataFrame, key: str, weight: str, columns: Sequence[str]) -> pl.DataFrame:
    """Net changes, of each key one row that goes and one that comes at most, with their kind: what comes in the place
    of a row stands right behind it. A row that is as before in these `columns` has not changed.

    >>> changes = pl.DataFrame({"k": [1, 2, 1], "v": [5, 7, 6], "n": [1, -1, -1]})
    >>> with_kinds(changes, "k", "n", ["v"])[["k", "v", CHANGE]].rows()
    [(1, 6, 'update_before'), (1, 5, 'update_after'), (2, 7, 'delete')]
    """
    if not (rows[weight] < 0).any():
        return rows.hstack([pl.Series(CHANGE, ["insert"], CHANGE_TYPE).new_from_index(0, rows.height)])
    keys = rows[key]
    if not keys.is_sorted() or (keys.eq_missing(keys.shift(1)) & (rows[weight] < 0)).any():
        rows = rows.sort(key, weight)
    goes, comes_next = pl.col(weight) < 0, pl.col(weight).shift(-1, fill_value=-1) > 0
    replaced = goes & comes_next & pl.col(key).eq_missing(pl.col(key).shift(-1))
    same = pl.all_horizontal(replaced, *(pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in columns))
    before, after, gone, new = (
        pl.lit(kind, CHANGE_TYPE) for kind in ("update_before", "update_after", "delete", "insert")
    )
    comes_after = replaced.shift(1, fill_value=False)
    kind = pl.when(replaced).then(before).when(comes_after).then(after).when(goes).then(gone).otherwise(new)
    told = rows.with_columns(kind.alias(CHANGE), (same | same.shift(1, fill_value=False)).alias(_SAME))
    changed = told[told.columns[:-1]]
    return changed.filter(~told[_SAME]) if told[_SAME].any() else changed
