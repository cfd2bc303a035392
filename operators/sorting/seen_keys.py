"""The keys of which a record has been put out.

The records of a key fall into groups: the first record that is in none begins one, which holds all records less than
`within` after it; without `within` there is one group, for ever. Of a group the time of its first record is kept, in
panes by that time, until event time has moved `within` past it: a pane as a whole goes when the last of them has.
A pane is shorter than `within`, so no key is in it twice, and nothing is ever replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from streamflow.core.key_join import key_join
from streamflow.core.partition import partitioned
from streamflow.core.plain_keys import occur_once
from streamflow.core.schema import EVENT_TIME
from streamflow.operators.contract.operator import OperatorContext
from streamflow.operators.sorting.key_numbers import key_numbers
from streamflow.operators.sorting.known_hashes import KnownHashes
from streamflow.state.frames.merging import as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["SeenKeys"]

_FIRST: Final = "__first"
"""The time of the first record of a group, in microseconds."""
_PLACE: Final = "__at"
_FOR_EVER: Final = 0
"""The pane of keys that are never forgotten."""
_MANY: Final = 32
"""The number of rows of a pane per sought key below which all of them are compared: to find so many keys one by one
takes longer."""


class SeenKeys:
    """The keys of one subtask of which a record has been put out; `within` in microseconds, None for ever."""

    def __init__(self, ctx: OperatorContext, keys: OwnedKeys, within: int | None) -> None:
        self._keys = list(keys.columns)
        self._within = within
        self._width = max(1, (within or 0) // 2)
        kept = None if within is None else _FIRST
        seed = int(ctx.random.token(), 16)
        self._hashes = KnownHashes(self._keys, ctx.memory_budget, seed, kept=kept)
        self._store = FrameStore(
            ctx.state, ctx.operator_id, as_they_are, ctx.memory_budget, keys, state="seen"
        )

    def beginnings(
        self, frame: pl.DataFrame, reached: int, settled: Callable[[pl.DataFrame], pl.DataFrame]
    ) -> pl.DataFrame:
        """The records of a frame in order that begin a group, which are noted; event time has `reached` so far.
        `settled` puts records of one key in their final order."""
        begins = self._unknown(frame)
        if not occur_once(begins, self._keys):
            begins = self._first_ones(settled(begins))
        self._note(begins, reached)
        return begins

    def forget(self, reached: int) -> None:
        """Forgets the groups that hold no later record than `reached`."""
        if self._within is None and reached < MAX_TIME:
            return
        for pane in self._store.panes():
            if reached < MAX_TIME and pane + self._width - 1 > reached + 1 - (self._within or 0):
                return
            self._store.drop(pane)
            self._hashes.drop(pane)

    def snapshot(self) -> OperatorSnapshot:
        """All groups."""
        return self._store.snapshot()

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        self._store.restore(parts)
        for pane in self._store.panes():
            for rows in self._store.in_slices(pane):
                self._hashes.add(pane, rows)

    def _unknown(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The records that are in no group so far."""
        times = None if self._within is None else frame[EVENT_TIME].cast(pl.Int64)
        found: list[pl.Series] = []
        for pane, told in self._hashes.told(self._store.panes(), frame):
            found.append(self._within_group(told.known, times, told.kept))
            if len(told.perhaps):
                sought = frame[told.perhaps] if len(told.perhaps) < frame.height else frame
                rows = self._rows_of(pane, sought)
                if rows is not None:
                    placed = sought[self._keys].hstack([told.perhaps.alias(_PLACE)])
                    met = key_join(placed, rows, self._keys)
                    kept = None if self._within is None else met[_FIRST]
                    found.append(self._within_group(met[_PLACE], times, kept))
        if not any(map(len, found)):
            return frame
        known = pl.repeat(False, frame.height, eager=True, dtype=pl.Boolean).scatter(pl.concat(found), True)
        return frame.filter(~known)

    def _within_group(
        self, places: pl.Series, times: pl.Series | None, firsts: pl.Series | None
    ) -> pl.Series:
        """Those of the places at which a record is not too late for the group of its key. Records come in order: it is
        too late for all groups of the key but the last one."""
        if self._within is None or times is None or firsts is None:
            return places
        return places.filter(times.gather(places) - firsts < self._within)

    def _rows_of(self, pane: int, sought: pl.DataFrame) -> pl.DataFrame | None:
        """The groups of a pane that these records' keys have."""
        if self._store.rows_in(pane) > _MANY * sought.height:
            return self._store.look_up(pane, sought)
        rows = key_join(self._store.read(pane), sought[self._keys].unique(), self._keys)
        return rows if rows.height else None

    def _first_ones(self, left: pl.DataFrame) -> pl.DataFrame:
        """The records that begin a group, of those that are in none so far."""
        if self._within is None or _span(left[EVENT_TIME]) < self._within:
            return left.unique(self._keys, keep="first", maintain_order=True)
        return left.filter(self._begin_again(left, self._within))

    def _begin_again(self, left: pl.DataFrame, within: int) -> pl.Series:
        """Whether a record begins a group, of records among which a key may have several."""
        began: dict[int, int] = {}
        begin: list[bool] = []
        times: list[int] = left[EVENT_TIME].cast(pl.Int64).to_list()
        for number, time in zip(key_numbers(left, self._keys), times, strict=True):
            before = began.get(number)
            new = before is None or time - before >= within
            if new:
                began[number] = time
            begin.append(new)
        return pl.Series(begin, dtype=pl.Boolean)

    def _note(self, begins: pl.DataFrame, reached: int) -> None:
        rows = begins[self._keys]
        if reached == MAX_TIME:
            return
        if self._within is None:
            self._add(_FOR_EVER, rows)
            return
        first = begins[EVENT_TIME].cast(pl.Int64).alias(_FIRST)
        rows = rows.hstack([first])
        lasting = first > max(reached + 1 - self._within, MIN_TIME)
        if not lasting.all():
            rows, first = rows.filter(lasting), first.filter(lasting)
        for pane, part in partitioned(rows, first - first % self._width):
            self._add(pane, part)

    def _add(self, pane: int, rows: pl.DataFrame) -> None:
        self._store.append(pane, rows)
        self._hashes.add(pane, rows)


def _span(times: pl.Series) -> int:
    physical = times.cast(pl.Int64)
    return int(physical.max()) - int(physical.min())  # type: ignore[arg-type]
