"""Rows that are put away until they are due, or until a record comes for their key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.frames.store import FrameStore
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.memory_share import MemoryShare
from streamflow.state.operator_snapshot import EMPTY, OperatorSnapshot, StatePart

__all__ = ["Merge", "PutAway"]

Merge = Callable[[pl.DataFrame], pl.DataFrame]

_PANE: Final = 0
_ROWS: Final = "away"
_DUE: Final = "__due"
_AT_ONCE: Final = 1 << 17
"""The number of keys that are looked up at once, if so many are due: few would need most of the chunks as well."""


class PutAway:
    """Rows by key in one frame store, and the times at which they are due in another. `merge` makes fewer of the rows
    of one key; the result is due when one of them was."""

    def __init__(
        self,
        backend: KeyedStateBackend,
        operator_id: str,
        memory: MemoryShare,
        keys: OwnedKeys,
        merge: Merge,
    ) -> None:
        self._keys = keys
        self._rows = FrameStore(
            backend, operator_id, merge, memory, keys, state=_ROWS, replacing=True, sorting=True
        )
        self._due = TimeSorted(backend, operator_id, memory, keys, time=_DUE, state="due")

    def __len__(self) -> int:
        """The estimated number of rows that are put away; 0: none."""
        return len(self._due)

    def add(self, rows: pl.DataFrame, due: pl.Expr) -> None:
        """Puts rows away until the time `due`."""
        self._rows.append(_PANE, rows)
        self._due.add(rows.select(*self._keys.columns, due.alias(_DUE)))

    def take(self, keys: pl.DataFrame) -> pl.DataFrame | None:
        """Takes out the rows of keys, merged; None: there are none. The cost follows the number of keys."""
        return self._taken(keys) if len(self._due) else None

    def take_due(self, limit: int) -> tuple[pl.DataFrame | None, int]:
        """Takes out the rows of some thousand keys, the first that are due up to `limit` (None if there are none), and
        gives the time up to which nothing is left."""
        due, reached = self._due.take(limit, _AT_ONCE)
        rows = None if due is None else self._taken(due)
        if not len(self._due) and _PANE in self._rows:
            self._rows.drop(_PANE)
        return rows, reached

    def earliest(self) -> int | None:
        """The first time at which rows are due; None if there are none."""
        return self._due.earliest()

    def due_by(self, limit: int) -> int:
        """The estimated number of rows that are due up to `limit`."""
        return self._due.rows_by(limit)

    def snapshot(self) -> OperatorSnapshot:
        """All rows that are put away, and their times."""
        if not len(self._due):
            return EMPTY
        rows, due = self._rows.snapshot(), self._due.snapshot()
        return OperatorSnapshot({**rows.values, **due.values}, {**rows.tables, **due.tables}, rows.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        mine = [part for part in parts if _ROWS in part.values]
        self._rows.restore(mine)
        self._due.restore(mine)

    def take_all(self) -> pl.DataFrame | None:
        """Takes out all rows; None: there are none."""
        if _PANE not in self._rows:
            return None
        rows = self._rows.read(_PANE)
        self._rows.drop(_PANE)
        self._due.clear()
        return rows

    def _taken(self, keys: pl.DataFrame) -> pl.DataFrame | None:
        found = self._rows.look_up(_PANE, keys)
        if found is not None:
            self._rows.remove(_PANE, found)
        return found
