"""The event times that a source has read, for processes in batch mode.

They put their events in order, and their timers fire between these as in a stream in order: the watermark before an
event depends on records of other subtasks, or of none.
"""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = ["SeenTimes"]

_MOST: Final = 1 << 22
"""The largest number of times that is kept, of eight bytes each; of a larger input a process knows only its own
subtask's records."""
_PARTS: Final = 64


class SeenTimes:
    """Event times, each kept once.

    >>> seen = SeenTimes()
    >>> seen.add(pl.Series([3, 1])); seen.add(pl.Series([1, 2]))
    >>> seen.all.to_list()
    [1, 2, 3]
    """

    def __init__(self) -> None:
        self._parts: list[pl.Series] | None = []

    def add(self, times: pl.Series) -> None:
        """Adds the times of some records, in microseconds."""
        if self._parts is None:
            return
        self._parts.append(times)
        if len(self._parts) > _PARTS:
            merged = self.all
            self._parts = None if merged is None or len(merged) > _MOST else [merged]

    @property
    def all(self) -> pl.Series | None:
        """The times in order; None if there were none, or too many."""
        return pl.concat(self._parts).unique().sort() if self._parts else None
