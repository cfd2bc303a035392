"""Runs of rows in which keys are looked up.

A run keeps the order of appending until keys have been looked up in it for some time: the first time may be the last.
From then on it is sorted by the hash of the key, and looking up costs a binary search for each key and one gather,
whatever the size of the run. Many keys are searched in columns.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final, cast

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.keys import key_hashes

__all__ = ["Run", "by_hash", "compared_keys", "rows_of_runs", "sorted_together"]

_GONE_OVER: Final = 256
"""Runs with no more rows are not sorted."""
_MANY: Final = 8
"""The number of rows per sought key below which all rows are compared."""
_MANY_OF_SMALL: Final = 32
_SMALL: Final = 4_096
"""The same, and its limit, where searching costs more than some more rows in what is then done with them."""
_SEARCHED: Final = 64
"""The number of keys from which on a query searches them faster than Python does."""
_COMPARED: Final = 32
"""The number of times that a key is compared with all rows before they are sorted: sorting costs about as much."""
_COMPARED_KEYS: Final = 4
"""The number of keys of a part up to which they are compared with each row."""
_HASH: Final = "__hash"


class Run:
    """Rows of one part of a pane, in the order of appending for each key. `nbytes` as estimated. `merged`: all that
    can be merged of them is. `looked_up`: keys have been looked up in it, or in one that it was made of."""

    __slots__ = ("_compared", "_hashes", "_sorted", "frame", "looked_up", "merged", "nbytes")

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
        self._sorted = hashes
        self._hashes: array[int] | None = None
        self._compared = 0

    def rows_of(
        self, hashes: Sequence[int], keys: Sequence[str], values: Sequence[object] = ()
    ) -> pl.DataFrame | None:
        """The rows whose keys have one of these hashes (ascending), and perhaps others; None: there are none. `values`:
        the keys themselves, if they are few and in one plain column."""
        if self._are_few(len(hashes)):
            return self.frame
        if self._sorted is None:
            if values and self._compared < _COMPARED:
                self.looked_up = True
                self._compared += 1
                return _rows_with(self.frame, keys[0], values)
            if not self.looked_up:
                self.looked_up = True
                return self.frame
        ordered = self.sort(keys)
        if len(hashes) < _SEARCHED:
            return self.rows_at(self._places(ordered, hashes))
        (places,) = _places_in_columns([ordered], hashes)
        return self.rows_at(places)

    @property
    def is_sorted(self) -> bool:
        """Whether the rows are in the order of the hashes of their keys, so that looking up does not go over them."""
        return self._sorted is not None

    def hashed(self, keys: Sequence[str]) -> pl.DataFrame:
        """The rows with the hashes of their keys in a column behind the others."""
        hashes = key_hashes(self.frame, keys) if self._sorted is None else self._sorted
        return self.frame.hstack([hashes.alias(_HASH)])

    def sort(self, keys: Sequence[str]) -> pl.Series:
        """Sorts the rows by the hash of their keys, if they are not, and gives these hashes."""
        if self._sorted is None:
            self.frame, self._sorted = by_hash(self.frame, keys)
        return self._sorted

    def searched_in_columns(self, sought: int) -> bool:
        """Whether so many keys are searched by a query."""
        sorts = self._sorted is not None or self.looked_up
        return sought >= _SEARCHED and sorts and not self._are_few(sought)

    def _are_few(self, sought: int) -> bool:
        """Whether going over all rows costs less than searching so many keys."""
        return self.frame.height <= max(_GONE_OVER, sought * _MANY, min(sought * _MANY_OF_SMALL, _SMALL))

    def rows_at(self, places: pl.Series) -> pl.DataFrame | None:
        """The rows at these places, ascending; None: there are none."""
        if not len(places):
            return None
        if places[-1] - places[0] < len(places):
            # Nothing is copied, at a tenth of the cost.
            return self.frame.slice(places[0], len(places))
        return self.frame[places]

    def _places(self, ordered: pl.Series, hashes: Sequence[int]) -> pl.Series:
        """The places of the rows with these hashes (ascending), found one by one."""
        if self._hashes is None:
            self._hashes = array("Q", ordered.to_list())
        places: list[int] = []
        kept, low = self._hashes, 0
        for sought in hashes:
            low = bisect_left(kept, sought, low)
            while low < len(kept) and kept[low] == sought:
                places.append(low)
                low += 1
        return pl.Series(places, dtype=pl.UInt32)


def rows_of_runs(
    runs: Sequence[Run], hashes: Sequence[int], keys: Sequence[str], values: Sequence[object] = ()
) -> list[pl.DataFrame]:
    """`rows_of` for each of several runs, as far as there are any; many keys are searched in all of them by one
    query."""
    searched = [run for run in runs if run.searched_in_columns(len(hashes))]
    if len(searched) > 1:
        places = _places_in_columns([run.sort(keys) for run in searched], hashes)
        at = dict(zip(map(id, searched), places, strict=True))
    else:
        at = {}
    found = (run.rows_at(at[id(run)]) if id(run) in at else run.rows_of(hashes, keys, values) for run in runs)
    return [rows for rows in found if rows is not None]


def _places_in_columns(runs: Sequence[pl.Series], hashes: Sequence[int]) -> list[pl.Series]:
    """The places of the rows with these hashes (ascending), for each of some runs that are sorted by theirs."""
    sought = pl.lit(pl.Series(hashes, dtype=pl.UInt64))
    ends = pl.select(
        pl.lit(ordered).search_sorted(sought, side).alias(f"{side} {number}")
        for number, ordered in enumerate(runs)
        for side in ("left", "right")
    ).get_columns()
    return [_between(ends[at], ends[at + 1]) for at in range(0, len(ends), 2)]


def _between(low: pl.Series, high: pl.Series) -> pl.Series:
    """The places from each of `low` up to its `high`."""
    some = low < high
    low, high = low.filter(some), high.filter(some)
    if len(low) and (high - low).max() != 1:
        low = pl.select(pl.int_ranges(low, high, dtype=pl.UInt32).explode()).to_series()
    return low


def _rows_with(frame: pl.DataFrame, column: str, values: Sequence[object]) -> pl.DataFrame | None:
    """The rows in which a column of a plain type has one of a few values (at least one); None: there are none. A tenth
    of the cost of a query."""
    series = frame[column]
    chosen: pl.Series | None = None
    for value in values:
        # Polars takes bytes by themselves for a column of numbers.
        one = pl.Series([value]) if isinstance(value, bytes) else value
        has = series.is_null() if one is None else series == one
        chosen = has if chosen is None else chosen | has
    assert chosen is not None
    count = chosen.sum()
    if count == 1:
        return frame.slice(cast("int", chosen.arg_max()), 1)
    return frame.filter(chosen) if count else None


def by_hash(frame: pl.DataFrame, keys: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
    """A frame sorted by the hash of its keys, rows of one hash in their order, and these hashes."""
    return _ordered(frame.hstack([key_hashes(frame, keys).alias(_HASH)]))


def sorted_together(runs: Sequence[Run], keys: Sequence[str]) -> tuple[pl.DataFrame, pl.Series]:
    """The same for the rows of several runs, which takes a quarter of the time if most are sorted."""
    return _ordered(concatenated([run.hashed(keys) for run in runs]))


def _ordered(hashed: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    ordered = hashed.sort(_HASH, maintain_order=True)
    return ordered[ordered.columns[:-1]], ordered[_HASH]


def compared_keys(values: Mapping[int, object], hashes: Sequence[int]) -> list[object]:
    """The keys with these hashes if they are so few that they are compared with each row."""
    return [values[each] for each in hashes] if values and len(hashes) <= _COMPARED_KEYS else []
