"""Merging of the frames of one part, where the rows of a key may have been replaced.

A mark is a row that has nothing but its key: whatever was appended before it for that key counts no more. So rows are
replaced at the cost of appending, and what they replace goes when frames are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.key_join import key_join
from streamflow.core.membership import has_key_in
from streamflow.core.plain_keys import are_plain, keys_as_objects
from streamflow.state.frames.parts import TAIL_ROWS

__all__ = ["MARK", "Merging", "as_they_are", "flagged", "marks_of", "unflagged"]

MARK: Final = "__mark"
"""Whether a row is a mark."""
_NUMBER: Final = "__number"
_FEW: Final = 2_048
"""The number of rows up to which going over them one by one costs less than a join."""
_FLAGS: Final = {flag: pl.Series(MARK, [flag]) for flag in (False, True)}


class Merging:
    """Makes one frame of several. `merge` turns the concatenation of frames into one and must be associative; with
    `replacing` it is called only for keys that have more than one row."""

    def __init__(
        self,
        keys: Sequence[str],
        merge: Callable[[pl.DataFrame], pl.DataFrame],
        *,
        replacing: bool,
        repeated: bool = False,
    ) -> None:
        """`repeated`: most keys have several rows, so that frames without marks are merged as a whole."""
        self._keys = list(keys)
        self._repeated = repeated
        self._merge = merge
        self._replacing = replacing

    def __call__(self, frames: Sequence[pl.DataFrame], *, oldest: bool) -> pl.DataFrame:
        """One frame of at least one, oldest first. `oldest`: there are no older rows, so that marks have done their
        work."""
        frame = concatenated(frames)
        if not self._replacing:
            return self._merge(frame)
        marked = _any_mark(frame)
        if self._repeated and not marked:
            rows = self._merge(unflagged(frame))
        else:
            keys = frame[self._keys].unique()
            if keys.height == frame.height and not marked:
                return frame
            rows = self.rows(frame, keys)
        if MARK in frame.columns:
            rows = flagged(rows, mark=False)
        if oldest or not marked:
            return rows
        marks = frame.filter(MARK).unique(self._keys)
        return concatenated([marks, rows[marks.columns]])

    def in_portions(self, ordered: Iterable[pl.DataFrame]) -> pl.DataFrame:
        """One frame of at least one, oldest first, merging on the way: the result and one part of its size are all that
        is in memory."""
        merged_rows, pending_rows = 0, 0
        frames: list[pl.DataFrame] = []
        for frame in ordered:
            frames.append(frame)
            pending_rows += frame.height
            if pending_rows > max(TAIL_ROWS, merged_rows):
                frames = [self(frames, oldest=True)]
                merged_rows, pending_rows = frames[0].height, 0
        if pending_rows or len(frames) > 1:
            return self(frames, oldest=True)
        return frames[0]

    def rows(self, frame: pl.DataFrame, keys: pl.DataFrame) -> pl.DataFrame:
        """The rows of these keys (each once) that no later mark has replaced, merged, without the marks."""
        names = [name for name in frame.columns if name != MARK]
        types = frame[self._keys].dtypes
        if frame.height <= _FEW and types == keys.dtypes and are_plain(types):
            places = self._places(frame, keys)
            rows = frame[names][pl.Series(list(chain.from_iterable(places)), dtype=pl.UInt32)]
            return self._merge(rows) if any(len(of_key) > 1 for of_key in places) else rows
        if self._repeated and not _any_mark(frame):
            found = frame[names].filter(has_key_in(frame, keys, self._keys))
            return self._merge(found) if found.height else found
        numbered = key_join(frame, keys.with_row_index(_NUMBER), self._keys)
        if _any_mark(numbered):
            numbered = numbered.filter(_behind_marks(numbered[_NUMBER], numbered[MARK], keys.height))
        rows, number = numbered[names], numbered[_NUMBER]
        if number.n_unique() == rows.height:
            return rows
        several = number.to_frame().is_duplicated()
        merged = self._merge(rows.filter(several))[rows.columns]
        return merged if several.all() else concatenated([rows.filter(~several), merged])

    def _places(self, frame: pl.DataFrame, keys: pl.DataFrame) -> Collection[list[int]]:
        """For each key the places of its rows behind its last mark; quicker than queries where there are few rows."""
        places: dict[object, list[int]] = {key: [] for key in keys_as_objects(keys, self._keys)}
        marks = frame[MARK].to_list() if MARK in frame.columns else None
        objects = keys_as_objects(frame, self._keys)
        for place in [place for place, key in enumerate(objects) if key in places]:
            if marks is not None and marks[place]:
                places[objects[place]].clear()
            else:
                places[objects[place]].append(place)
        return places.values()


def _any_mark(frame: pl.DataFrame) -> bool:
    # Frames of a version without marks have none.
    return MARK in frame.columns and bool(frame[MARK].any())


def _behind_marks(numbers: pl.Series, marks: pl.Series, keys: int) -> pl.Series:
    """Whether a row stands behind the last mark of its key, given by a number below `keys`."""
    places = pl.int_range(len(numbers), eager=True)
    last = pl.Series([-1]).new_from_index(0, keys)
    last.scatter(numbers.filter(marks), places.filter(marks))
    return places > last[numbers]


def flagged(rows: pl.DataFrame, *, mark: bool) -> pl.DataFrame:
    """The rows with the column MARK."""
    return rows.hstack([_FLAGS[mark].new_from_index(0, rows.height)])


def unflagged(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows without the column MARK."""
    return rows[[name for name in rows.columns if name != MARK]]


def marks_of(rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """A mark for the key of each row.

    >>> marks_of(pl.DataFrame({"k": ["a"], "n": [5]}), ["k"]).rows()
    [('a', None, True)]
    """
    return flagged(pl.concat([rows.clear(), rows[keys]], how="diagonal"), mark=True)


def as_they_are(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows themselves: the `merge` of a store that keeps each row by itself."""
    return rows
