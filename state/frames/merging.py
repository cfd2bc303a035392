"""Merging of the frames of one part, where the rows of a key may have been replaced.

A mark is a row that has nothing but its key: whatever was appended before it for that key counts no more. So rows are
replaced at the cost of appending, and what they replace goes when frames are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated

__all__ = ["MARK", "Merging", "marked"]

MARK: Final = "__mark"
"""Whether a row is a mark."""


class Merging:
    """Makes one frame of several. `merge` turns the concatenation of frames into one and must be associative; with
    `replacing` it is called only for keys that have more than one row."""

    def __init__(
        self, keys: Sequence[str], merge: Callable[[pl.DataFrame], pl.DataFrame], *, replacing: bool
    ) -> None:
        self._keys = list(keys)
        self._merge = merge
        self._replacing = replacing

    def __call__(self, frames: Sequence[pl.DataFrame], *, oldest: bool) -> pl.DataFrame:
        """One frame of at least one, oldest first. `oldest`: there are no older rows, so that marks have done their
        work."""
        frame = concatenated(frames)
        if not self._replacing:
            return self._merge(frame)
        if MARK not in frame.columns:
            return self._fewer(frame)
        # Frames of a version without marks have none.
        frame = frame.with_columns(pl.col(MARK).fill_null(False))
        marks = frame.filter(pl.col(MARK))
        rows = self._fewer(self._after_marks(frame).drop(MARK)).with_columns(pl.lit(False).alias(MARK))
        if oldest or marks.is_empty():
            return rows
        return concatenated([marks.unique(self._keys), rows.select(marks.columns)])

    def _after_marks(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows that no later mark has replaced, in order."""
        place = pl.int_range(pl.len())
        after = (place > place.filter(pl.col(MARK)).max()).fill_null(True)
        return frame.filter(~pl.col(MARK), after.over(self._keys))

    def _fewer(self, rows: pl.DataFrame) -> pl.DataFrame:
        counts = rows.select(pl.len().over(self._keys)).to_series()
        several = counts > 1
        if not several.any():
            return rows
        merged = self._merge(rows.filter(several)).select(rows.columns)
        return merged if several.all() else concatenated([rows.filter(~several), merged])


def marked(keys: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows (perhaps none) after a mark for each of the keys.

    >>> marked(pl.DataFrame({"k": ["a"]}), pl.DataFrame({"k": ["a"], "n": [5]})).rows()
    [('a', None, True), ('a', 5, False)]
    """
    marks = keys.unique(maintain_order=True)
    whole = pl.concat([rows.clear(), marks, rows], how="diagonal_relaxed")
    places = pl.int_range(pl.len()) < marks.height
    return whole.with_columns(places.alias(MARK))
