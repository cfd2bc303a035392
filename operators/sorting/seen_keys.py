"""The keys of which a record has been put out.

The records of a key fall into groups: the first record that is in none begins one, which holds all records less than
`within` after it; without `within` there is one group, for ever. Of a group the time of its first record is kept, in
panes by that time, until event time has moved `within` past it: a pane as a whole goes when the last of them has.
A pane is shorter than `within`, so no key is in it twice, and nothing is ever replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.key_join import key_join
from streamflow.core.partition import partitioned
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
        self._hashes = KnownHashes(self._keys, ctx.memory_budget)
        self._store = FrameStore(
            ctx.state, ctx.operator_id, as_they_are, ctx.memory_budget, keys, state="seen"
        )

    def beginnings(self, frame: pl.DataFrame, reached: int, *, alone: bool) -> pl.DataFrame:
        """The records of a frame in order that begin a group, which are noted; event time has `reached` so far.
        `alone`: no two of them have the same key."""
        old = self._known(frame)
        begins = frame if alone and old is None else frame.filter(self._begin(frame, old))
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

    def _known(self, frame: pl.DataFrame) -> pl.DataFrame | None:
        """The groups of the keys of these records, a key's later ones last; None if there are none."""
        perhaps = self._hashes.perhaps(self._store.panes(), frame)
        found = (self._rows_of(pane, rows) for pane, rows in perhaps if rows.height)
        known = [rows for rows in found if rows is not None]
        return concatenated(known) if known else None

    def _rows_of(self, pane: int, sought: pl.DataFrame) -> pl.DataFrame | None:
        """The groups of a pane that these records' keys have."""
        if self._store.rows_in(pane) > _MANY * sought.height:
            return self._store.look_up(pane, sought)
        rows = key_join(self._store.read(pane), sought[self._keys].unique(), self._keys)
        return rows if rows.height else None

    def _begin(self, frame: pl.DataFrame, old: pl.DataFrame | None) -> pl.Series:
        """Whether a record begins a group."""
        times = [] if self._within is None else [EVENT_TIME]
        left = frame[[*self._keys, *times]].with_row_index(_PLACE)
        if old is not None:
            met = key_join(left, old.unique(self._keys, keep="last", maintain_order=True), self._keys)
            if self._within is not None:
                met = met.filter(met[EVENT_TIME].cast(pl.Int64) - met[_FIRST] < self._within)
            left = left.filter(~_at(met[_PLACE], frame.height))
        if self._within is not None and left.height and _span(left[EVENT_TIME]) >= self._within:
            return _at(left[_PLACE].filter(self._begin_again(left, self._within)), frame.height)
        return _at(left.unique(self._keys, keep="first", maintain_order=True)[_PLACE], frame.height)

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


def _at(places: pl.Series, rows: int) -> pl.Series:
    """Whether a row is at one of these places."""
    return pl.repeat(False, rows, eager=True, dtype=pl.Boolean).scatter(places, True)


def _span(times: pl.Series) -> int:
    physical = times.cast(pl.Int64)
    return int(physical.max()) - int(physical.min())  # type: ignore[arg-type]
