"""The keys of which a record has been put out.

The records of a key fall into groups: the first record that is in none begins one, which holds all records less than
`within` after it; without `within` there is one group, for ever. Of a group the time of its first record is kept, in
panes by that time, until event time has moved `within` past it: a pane as a whole goes when the last of them has.
A pane is shorter than `within`, so no key is in it twice, and nothing is ever replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.partition import partitioned
from streamflow.core.schema import EVENT_TIME
from streamflow.operators.contract.operator import OperatorContext
from streamflow.operators.sorting.key_numbers import key_numbers
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["SeenKeys"]

_FIRST: Final = "__first"
"""The time of the first record of a group, in microseconds."""
_FOR_EVER: Final = 0
"""The pane of keys that are never forgotten."""


class SeenKeys:
    """The keys of one subtask of which a record has been put out; `within` in microseconds, None for ever."""

    def __init__(self, ctx: OperatorContext, keys: OwnedKeys, within: int | None) -> None:
        self._keys = list(keys.columns)
        self._within = within
        self._width = max(1, (within or 0) // 2)
        self._store = FrameStore(
            ctx.state, ctx.operator_id, _unchanged, ctx.memory_budget, keys, state="seen"
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
        if reached == MAX_TIME:
            self._store.clear()
        elif self._within is not None:
            for pane in self._store.panes():
                if pane + self._width - 1 > reached + 1 - self._within:
                    return
                self._store.drop(pane)

    def snapshot(self) -> OperatorSnapshot:
        """All groups."""
        return self._store.snapshot()

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        self._store.restore(parts)

    def _known(self, frame: pl.DataFrame) -> pl.DataFrame | None:
        """The groups of the keys of these records, a key's later ones last; None if there are none."""
        found = [self._store.look_up(pane, frame) for pane in self._store.panes()]
        known = [rows for rows in found if rows is not None]
        return concatenated(known) if known else None

    def _begin(self, frame: pl.DataFrame, old: pl.DataFrame | None) -> pl.Series:
        """Whether a record begins a group."""
        within, keys = self._within, frame[self._keys]
        numbers = key_numbers(keys if old is None else concatenated([old[self._keys], keys]), self._keys)
        times: Iterable[int] = frame[EVENT_TIME].to_physical().to_list() if within is not None else repeat(0)
        began: dict[int, int] = {}
        if old is not None:
            earlier = old[_FIRST].to_list() if within is not None else repeat(0)
            began = dict(zip(numbers[: old.height], earlier, strict=False))
            numbers = numbers[old.height :]
        begin: list[bool] = []
        for number, time in zip(numbers, times, strict=False):
            before = began.get(number)
            new = before is None or (within is not None and time - before >= within)
            if new:
                began[number] = time
            begin.append(new)
        return pl.Series(begin, dtype=pl.Boolean)

    def _note(self, begins: pl.DataFrame, reached: int) -> None:
        rows = begins[self._keys]
        if reached == MAX_TIME:
            return
        if self._within is None:
            self._store.append(_FOR_EVER, rows)
            return
        first = begins[EVENT_TIME].to_physical().alias(_FIRST)
        rows = rows.hstack([first])
        lasting = first > max(reached + 1 - self._within, MIN_TIME)
        if not lasting.all():
            rows, first = rows.filter(lasting), first.filter(lasting)
        for pane, part in partitioned(rows, first - first % self._width):
            self._store.append(pane, part)


def _unchanged(frame: pl.DataFrame) -> pl.DataFrame:
    """The merge of frames of one pane: unchanged, since no key is in it twice."""
    return frame
