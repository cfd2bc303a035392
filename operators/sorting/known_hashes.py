"""The hashes of known keys: whether a key is known, and what is kept of it, can mostly be told without looking it up.

Of each pane of keys they are runs sorted by the hash, merged when there are many, as in a log-structured merge tree;
many keys at once, sorted too, are found by going along both, all of it in columns. Two independent hashes of 64 bits
stand for a key: one whose first hash is there and whose second is not has to be looked up. Among a billion keys, both
hashes of two are equal with a probability of 10⁻²¹; the second has a random seed, so that nobody can choose such keys.
The hashes take memory beside the keys; where it gets short they go, and every key is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import polars as pl

from streamflow.core.keys import key_hashes
from streamflow.state.memory_share import MemoryShare

__all__ = ["KnownHashes", "Told"]

_RUNS: Final = 4
"""The number of runs of a pane above which some are merged."""
_FOLDED: Final = 65_536
"""The number of rows that are hashed at the latest when so many have come."""
_MANY: Final = 1_024
"""The number of rows from which on it is faster to tell known keys by their hashes."""
_BYTES: Final = 8
_HASH: Final = "hash"
_CHECK: Final = "check"
_PLACE: Final = "place"
_OF_KNOWN: Final = " of known"


class Told(NamedTuple):
    """The places of the rows whose keys are known, what is kept of these keys (if anything is), and the places of the
    rows whose keys may be known."""

    known: pl.Series
    kept: pl.Series | None
    perhaps: pl.Series


class KnownHashes:
    """The hashes of known keys by pane, in a share of memory that a store of the keys has, too. `kept`: a column of
    integers that is kept of each key; `seed`: of the second hash."""

    def __init__(self, keys: Sequence[str], memory: MemoryShare, seed: int, *, kept: str | None) -> None:
        self._keys = list(keys)
        self._seed = seed
        self._kept = kept
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
        """Adds the keys of these rows, of which none is in the pane."""
        if self._given_up:
            return
        content = self._panes.setdefault(pane, _Pane(self._keys, self._seed, self._kept))
        content.new.append(rows)
        content.new_rows += rows.height
        if content.new_rows > _FOLDED:
            content.fold()
            self._tell()

    def drop(self, pane: int) -> None:
        """Forgets the keys of a pane."""
        if self._panes.pop(pane, None) is not None:
            self._tell()

    def told(self, panes: Iterable[int], frame: pl.DataFrame) -> Iterator[tuple[int, Told]]:
        """The known keys among those of a frame's rows, for each pane: of few rows all may be known."""
        all_rows = pl.int_range(frame.height, dtype=pl.UInt32, eager=True)
        nothing = Told(all_rows.clear(), None, all_rows)
        if self._given_up or frame.height < _MANY:
            yield from ((pane, nothing) for pane in panes)
            return
        sought = (
            _hashed(frame, self._keys, self._seed, known=False)
            .with_columns(all_rows.alias(_PLACE))
            .sort(_HASH)
        )
        for pane in panes:
            content = self._panes.get(pane)
            if content is not None:
                content.fold()
            yield pane, nothing if content is None else content.told(sought)
        self._tell()

    def _tell(self) -> None:
        before, self._told = self._told, self.nbytes
        self._memory.hold(self._told - before)


class _Pane:
    """The hashes of one pane, and the keys that wait to be hashed."""

    def __init__(self, keys: Sequence[str], seed: int, kept: str | None) -> None:
        self._keys = keys
        self._seed = seed
        self._kept = kept
        self.new: list[pl.DataFrame] = []
        self.new_rows = 0
        self._runs: list[pl.DataFrame] = []

    @property
    def nbytes(self) -> int:
        return _BYTES * sum(run.height * run.width for run in self._runs)

    def told(self, sought: pl.DataFrame) -> Told:
        """The known keys among those of rows that are in the order of their hashes."""
        met = pl.concat([_met(sought, run) for run in self._runs])
        sure = met[_CHECK] == met[_CHECK + _OF_KNOWN]
        known = met.filter(sure)
        return Told(
            known[_PLACE],
            None if self._kept is None else known[self._kept + _OF_KNOWN],
            met[_PLACE].filter(~sure).unique().sort(),
        )

    def fold(self) -> None:
        """Makes a run of the keys that have come, and one of several of like size."""
        if not self.new_rows and self._runs:
            return
        hashed = [self._known(rows) for rows in self.new]
        self.new, self.new_rows = [], 0
        self._runs.append(pl.concat(hashed).sort(_HASH + _OF_KNOWN))
        if len(self._runs) > _RUNS:
            kept, rows = len(self._runs) - 1, self._runs[-1].height
            while kept and (self._runs[kept - 1].height < 2 * rows or kept >= _RUNS):
                kept -= 1
                rows += self._runs[kept].height
            self._runs[kept:] = [pl.concat(self._runs[kept:]).sort(_HASH + _OF_KNOWN)]

    def _known(self, rows: pl.DataFrame) -> pl.DataFrame:
        hashed = _hashed(rows, self._keys, self._seed, known=True)
        if self._kept is not None:
            hashed = hashed.hstack([rows[self._kept]])
        hashed.columns = [name + _OF_KNOWN for name in hashed.columns]
        return hashed


def _met(sought: pl.DataFrame, run: pl.DataFrame) -> pl.DataFrame:
    """The rows whose hash is in a run; both are in order."""
    known = _HASH + _OF_KNOWN
    last = sought.join_asof(
        run, left_on=_HASH, right_on=known, strategy="backward", coalesce=False, check_sortedness=False
    )
    return last.filter(last[_HASH] == last[known])


def _hashed(rows: pl.DataFrame, keys: Sequence[str], seed: int, *, known: bool) -> pl.DataFrame:
    """Both hashes of the rows' keys. Keys that Polars has no hash of never agree in the second."""
    first = key_hashes(rows, keys).alias(_HASH)
    if any(dtype.is_nested() for dtype in rows[list(keys)].dtypes):
        second = pl.Series([int(known)], dtype=pl.UInt64).new_from_index(0, rows.height)
    else:
        second = rows[list(keys)].hash_rows(seed)
    return first.to_frame().hstack([second.alias(_CHECK)])
