"""The hashes of known keys: most keys that are new can be told so without looking them up.

Of each pane of keys they are sorted runs of eight bytes a key, merged when there are many, as in a log-structured merge
tree. Of many keys at once those whose hash is there are found by a binary search in each run, all of it in columns. The
hashes take memory beside the keys; where it gets short they go, and every key is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import polars as pl

from streamflow.core.keys import key_hashes
from streamflow.state.memory_share import MemoryShare

__all__ = ["KnownHashes"]

_RUNS: Final = 6
"""The number of runs of a pane above which some are merged."""
_FOLDED: Final = 65_536
"""The number of rows that are hashed at the latest when so many have come."""
_MANY: Final = 1_024
"""The number of rows from which on it is faster to tell by their hashes which keys have to be looked up."""
_BYTES: Final = 8


class KnownHashes:
    """The hashes of keys by pane, in a share of memory that a store of the keys has, too."""

    def __init__(self, keys: Sequence[str], memory: MemoryShare) -> None:
        self._keys = list(keys)
        self._memory = memory
        self._panes: dict[int, _Pane] = {}
        self._given_up = False
        self._told = 0
        memory.join(self)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(pane.nbytes for pane in self._panes.values())

    def make_room(self, nbytes: int) -> None:
        """Forgets all hashes, for good."""
        self._panes.clear()
        self._given_up = True
        self._told = 0

    def add(self, pane: int, rows: pl.DataFrame) -> None:
        """Adds the keys of these rows."""
        if self._given_up:
            return
        content = self._panes.setdefault(pane, _Pane())
        content.new.append(rows[self._keys])
        content.new_rows += rows.height
        if content.new_rows > _FOLDED:
            content.fold(self._keys)
            self._tell()

    def drop(self, pane: int) -> None:
        """Forgets the keys of a pane."""
        if self._panes.pop(pane, None) is not None:
            self._tell()

    def perhaps(self, panes: Iterable[int], frame: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """For each pane the rows of a frame whose keys may be in it: of few rows all."""
        if self._given_up or frame.height < _MANY:
            yield from ((pane, frame) for pane in panes)
            return
        hashes = key_hashes(frame, self._keys)
        # In order, neighbours in the search are neighbours in memory.
        order = hashes.arg_sort()
        hashes = hashes.gather(order)
        for pane in panes:
            content = self._panes.get(pane)
            if content is None:
                yield pane, frame
            else:
                content.fold(self._keys)
                yield pane, frame[content.places(hashes, order)]
        self._tell()

    def _tell(self) -> None:
        before, self._told = self._told, self.nbytes
        self._memory.hold(self._told - before)


class _Pane:
    """The hashes of one pane, and the keys that wait to be hashed."""

    def __init__(self) -> None:
        self.new: list[pl.DataFrame] = []
        self.new_rows = 0
        self._runs: list[pl.Series] = []

    @property
    def nbytes(self) -> int:
        return _BYTES * sum(map(len, self._runs))

    def places(self, ordered: pl.Series, order: pl.Series) -> pl.Series:
        """The places of the rows whose hash is there: `ordered` are the hashes, ascending, and `order` the places of
        the rows that have them."""
        known: pl.Series | None = None
        for run in self._runs:
            at = run.search_sorted(ordered).clip(upper_bound=len(run) - 1)
            found = run.gather(at) == ordered
            known = found if known is None else known | found
        return order.clear() if known is None else order.filter(known).sort()

    def fold(self, keys: Sequence[str]) -> None:
        """Makes a run of the keys that have come, and one of several of like size."""
        if not self.new_rows:
            return
        hashed = [key_hashes(frame, keys) for frame in self.new]
        self.new, self.new_rows = [], 0
        self._runs.append(pl.concat(hashed).sort())
        if len(self._runs) > _RUNS:
            kept, rows = len(self._runs) - 1, len(self._runs[-1])
            while kept and (len(self._runs[kept - 1]) < 2 * rows or kept >= _RUNS):
                kept -= 1
                rows += len(self._runs[kept])
            self._runs[kept:] = [pl.concat(self._runs[kept:]).sort()]
