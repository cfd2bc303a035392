"""Runs of rows in which keys are looked up.

A run keeps the order of appending until keys have been looked up in it for some time: the first time may be the last.
From then on it is sorted by the hash of the key, and looking up costs a binary search for each key and one gather,
whatever the size of the run.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, cast

import polars as pl

from streamflow.core.keys import key_hashes

__all__ = ["Run", "by_hash"]

_GONE_OVER: Final = 256
"""Runs with no more rows are not sorted."""
_MANY: Final = 8
"""The number of rows per sought key below which all rows are compared."""
_COMPARED: Final = 32
"""The number of times that a key is compared with all rows before they are sorted: sorting costs about as much."""
_HASH: Final = "__hash"


class Run:
    """Rows of one part of a pane, in the order of appending for each key. `nbytes` as estimated. `merged`: all that
    can be merged of them is. `looked_up`: keys have been looked up in it, or in one that it was made of."""

    __slots__ = ("_compared", "_hashes", "frame", "looked_up", "merged", "nbytes")

    def __init__(
        self,
        frame: pl.DataFrame,
        nbytes: int,
        *,
        merged: bool = False,
        looked_up: bool = False,
        hashes: pl.Series | None = None,
    ) -> None:
        """`hashes`: those of the keys, for a frame that is sorted by them."""
        self.frame = frame
        self.nbytes = nbytes
        self.merged = merged
        self.looked_up = looked_up
        self._hashes = None if hashes is None else array("Q", hashes.to_list())
        self._compared = 0

    @property
    def is_sorted(self) -> bool:
        """Whether keys are looked up without going over the rows."""
        return self._hashes is not None

    def rows_of(
        self, hashes: Sequence[int], keys: Sequence[str], values: Sequence[object] = ()
    ) -> pl.DataFrame | None:
        """The rows whose keys have one of these hashes (ascending), and perhaps others; None: there are none. `values`:
        the keys themselves, if they are few and in one plain column."""
        rows = self.frame.height
        if rows <= max(_GONE_OVER, len(hashes) * _MANY):
            return self.frame
        if self._hashes is None:
            if values and self._compared < _COMPARED:
                self.looked_up = True
                self._compared += 1
                return _rows_with(self.frame, keys[0], values)
            if not self.looked_up:
                self.looked_up = True
                return self.frame
        places: list[int] = []
        kept, low = self.sort(keys), 0
        for sought in hashes:
            low = bisect_left(kept, sought, low)
            while low < len(kept) and kept[low] == sought:
                places.append(low)
                low += 1
        if not places:
            return None
        if places[-1] - places[0] < len(places):
            # Nothing is copied, at a tenth of the cost.
            return self.frame.slice(places[0], len(places))
        return self.frame[pl.Series(places, dtype=pl.UInt32)]

    def sort(self, keys: Sequence[str]) -> array[int]:
        """Sorts the rows by the hash of their keys, if they are not, and gives these hashes."""
        if self._hashes is None:
            self.frame, ordered = by_hash(self.frame, keys)
            self._hashes = array("Q", ordered.to_list())
        return self._hashes


def _rows_with(frame: pl.DataFrame, column: str, values: Sequence[object]) -> pl.DataFrame | None:
    """The rows in which a column of a plain type has one of a few values (at least one); None: there are none. A tenth
    of the cost of a query."""
    series = frame[column]
    chosen: pl.Series | None = None
    for value in values:
        has = series.is_null() if value is None else series == value
        chosen = has if chosen is None else chosen | has
    assert chosen is not None
    count = chosen.sum()
    if count == 1:
        return frame.slice(cast("int", chosen.arg_max()), 1)
    return frame.filter(chosen) if count else None


def by_hash(frame: pl.DataFrame, keys: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
    """A frame sorted by the hash of its keys, rows of one hash in their order, and these hashes."""
    hashed = frame.hstack([key_hashes(frame, keys).alias(_HASH)])
    ordered = hashed.sort(_HASH, maintain_order=True)
    return ordered[frame.columns], ordered[_HASH]
