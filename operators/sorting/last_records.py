"""The last record of each group of a key: groups are those of `seen_keys`, and a group's last record by event time is
put out when the watermark has decided that no later one can come.

The open groups of all keys lie in a frame store, each with its last record so far; the times at which they are due in
another one, in order of time, so that the cost of a watermark follows the groups that it closes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.membership import has_key_in
from streamflow.core.schema import EVENT_TIME
from streamflow.operators.contract.operator import OperatorContext
from streamflow.operators.contract.waiting import LOOKED_UP
from streamflow.operators.sorting.key_numbers import key_numbers
from streamflow.state.frames.merging import MARK, as_they_are
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart
from streamflow.time.timestamps import MAX_TIME, MIN_TIME

__all__ = ["LastRecords"]

_FIRST: Final = "__first"
"""The time of the first record of a group, in microseconds."""
_DUE: Final = "__due"
"""The last moment of a group."""
_NUMBER: Final = "__number"
_INSIDE: Final = {name: f"\x1aown {name}" for name in (_FIRST, _DUE, _NUMBER, MARK)}
"""The names here of records' columns that are named like ours."""
_OUTSIDE: Final = {inside: name for name, inside in _INSIDE.items()}
_OPEN: Final = 0
"""The one pane of the open groups."""


class LastRecords:
    """The open groups of one subtask; `within` in microseconds."""

    def __init__(self, ctx: OperatorContext, keys: OwnedKeys, within: int) -> None:
        self._keys = list(keys.columns)
        self._within = within
        self._store = FrameStore(
            ctx.state, ctx.operator_id, as_they_are, ctx.memory_budget, keys, state="open", replacing=True
        )
        self._due = TimeSorted(ctx.state, ctx.operator_id, ctx.memory_budget, keys, time=_DUE, state="due")

    def lasting(self, frame: pl.DataFrame, reached: int) -> tuple[pl.DataFrame, int]:
        """Takes records in order, those of one moment at once: the last ones of the groups that are over by then, and
        the number of records that others have replaced."""
        frame = _renamed(frame, _INSIDE)
        old = self._store.look_up(_OPEN, frame)
        rows, numbers = self._grouped(frame, old)
        last = rows.hstack([numbers]).unique([_NUMBER, _FIRST], keep="last", maintain_order=True)
        last = last[rows.columns]
        over = self._over(last, reached)
        open_ = last.filter(~over)
        if old is not None:
            self._store.remove(_OPEN, old)
        self._store.append(_OPEN, open_)
        begun = open_ if old is None else open_.filter(open_[_FIRST] > int(old[_FIRST].max()))  # type: ignore[arg-type]
        self._due.add(begun[[*self._keys, _FIRST]].with_columns(self._end.alias(_DUE)))
        return _records(last.filter(over)), rows.height - last.height

    def closed(self, reached: int) -> list[pl.DataFrame]:
        """The last records of the groups that are over when event time has `reached` so far."""
        closed: list[pl.DataFrame] = []
        for due in self._due.due(reached):
            rows = self._store.look_up(_OPEN, due)
            # A group that a later record has shown to be over is gone, or another one is in its place.
            over = None if rows is None else rows.filter(self._over(rows, reached))
            if over is not None and over.height:
                self._store.remove(_OPEN, over)
                closed.append(_records(over))
        if reached == MAX_TIME:
            self._store.clear()
        return closed

    def earliest(self) -> tuple[int | None, bool]:
        """The last moment of the open group that is over first (None if there is none); and whether that is sure: of
        many groups that are not open any more only some are looked up, and none is over before."""
        due, all_ = self._due.first(LOOKED_UP)
        if due is None:
            return None, True
        rows = self._still_open(due)
        if rows.height:
            return int(rows[_DUE][0]), True
        return (None, True) if all_ else (int(due[_DUE][-1]), False)

    @property
    def rows(self) -> int:
        """The number of open groups, about."""
        return self._store.rows

    def due_by(self, watermark: int) -> int:
        """The estimated number of groups that a watermark closes."""
        return self._due.rows_by(watermark)

    def snapshot(self) -> OperatorSnapshot:
        """All open groups."""
        store, due = self._store.snapshot(), self._due.snapshot()
        values = {**store.values, "closing": dict(due.values)}
        return OperatorSnapshot(values, {**store.tables, **due.tables}, store.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        self._store.restore(parts)
        self._due.restore([replace(part, values=part.values["closing"]) for part in parts])

    @property
    def _end(self) -> pl.Expr:
        return pl.col(_FIRST).clip(upper_bound=MAX_TIME - self._within + 1) + (self._within - 1)

    def _still_open(self, due: pl.DataFrame) -> pl.DataFrame:
        rows = self._store.peek(_OPEN, due)
        if rows is None:
            return due.clear()
        return due.filter(has_key_in(due, rows, [*self._keys, _FIRST]))

    def _over(self, rows: pl.DataFrame, reached: int) -> pl.Series:
        """Whether a group can have no later record: at the end of input, none can."""
        return rows[_FIRST] <= (
            MAX_TIME if reached == MAX_TIME else max(reached + 1 - self._within, MIN_TIME)
        )

    def _grouped(self, frame: pl.DataFrame, old: pl.DataFrame | None) -> tuple[pl.DataFrame, pl.Series]:
        """The old rows and the new ones, each with the first time of its group, and the numbers of their keys."""
        keys = frame[self._keys]
        numbers = key_numbers(keys if old is None else concatenated([old[self._keys], keys]), self._keys)
        before = 0 if old is None else old.height
        began = {} if old is None else dict(zip(numbers, old[_FIRST].to_list(), strict=False))
        firsts: list[int] = []
        for number, time in zip(numbers[before:], frame[EVENT_TIME].to_physical().to_list(), strict=True):
            first = began.get(number)
            if first is None or time - first >= self._within:
                first = began[number] = time
            firsts.append(first)
        new = frame.hstack([pl.Series(_FIRST, firsts, dtype=pl.Int64)])
        rows = new if old is None else concatenated([old, new])
        return rows, pl.Series(_NUMBER, numbers, dtype=pl.Int64)


def _records(rows: pl.DataFrame) -> pl.DataFrame:
    """The records of groups, without the columns that are ours."""
    return _renamed(rows.drop(_INSIDE, strict=False), _OUTSIDE)


def _renamed(rows: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    found = {name: names[name] for name in rows.columns if name in names}
    return rows.rename(found) if found else rows
