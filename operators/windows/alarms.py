"""The windows that wait for the clock, and the time of the first of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.membership import has_key_in
from streamflow.operators.aggregates.partials import END, START
from streamflow.state.frames.time_sorted import TimeSorted
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart

__all__ = ["WAIT", "Alarms"]

WAIT: Final = "__wait"
"""The time that a window waits for: of its end, of its clean-up, of the clock."""
_NEAR: Final = 16
"""The number of windows that wait for the clock, for each of a batch, above which those of the batch are not sought
among them."""
_MOST_PENDING: Final = 200_000
"""The largest number of windows of a pane among which they are sought."""
_MOST_CHUNKS: Final = 32


@dataclass(frozen=True, slots=True)
class _Pending:
    """Windows that wait for the clock, in the order of their times, and the first of these times. Only so that they
    need not wait twice: what is missing here does no harm, and a window that is here may wait for a time that is too
    early."""

    windows: pl.DataFrame
    waits_from: int

    @staticmethod
    def of(windows: pl.DataFrame, due: int) -> _Pending:
        return _Pending(windows.with_columns(pl.lit(due, pl.Int64).alias(WAIT)), due)

    def after(self, now: int) -> _Pending | None:
        """The windows that wait beyond this moment; None if there are none."""
        left = self.windows.filter(self.windows[WAIT] > now)
        return _Pending(left, left[WAIT][0]) if left.height else None

    def with_more(self, windows: pl.DataFrame, due: int) -> _Pending:
        more = concatenated([self.windows, _Pending.of(windows, due).windows])
        if more.height > _MOST_PENDING:
            return _Pending.of(windows, due)
        return _Pending(more.rechunk() if more.n_chunks() > _MOST_CHUNKS else more, self.waits_from)

    def holds(self, windows: pl.DataFrame, keys: list[str], by: list[str]) -> pl.Series:
        """Whether a window is among these."""
        end = windows[END][0]
        # Own windows may have one end and several starts.
        alike = START not in by and bool((windows[END] == end).all() and (self.windows[END] == end).all())
        return has_key_in(windows, self.windows, keys if alike else by)


class Alarms:
    """The windows of one subtask that wait for the clock. `keys` and `by`: the columns of a key, and of a window."""

    def __init__(self, waiting: TimeSorted, keys: list[str], by: list[str]) -> None:
        self._waiting = waiting
        self._keys = keys
        self._by = by
        self.next: int | None = None
        """The time of the first one; None for none."""
        self._pending: dict[int, _Pending] = {}

    def set(self, windows: pl.DataFrame, due: int) -> None:
        """Lets windows wait for a time."""
        self._waiting.add(windows.with_columns(pl.lit(due, pl.Int64).alias(WAIT)))
        self.next = due if self.next is None else min(self.next, due)

    def set_once(self, pane: int, windows: pl.DataFrame, due: int, now: int) -> None:
        """Lets windows wait for the clock that do not yet; all of them, if most of those that wait are other ones."""
        pending = self._pending.get(pane)
        if pending is not None and pending.waits_from <= now:
            pending = pending.after(now)
        if pending is not None and pending.windows.height <= _NEAR * windows.height:
            windows = windows.filter(~pending.holds(windows, self._keys, self._by))
        if windows.is_empty():
            return
        self.set(windows, due)
        self._pending[pane] = (
            _Pending.of(windows, due) if pending is None else pending.with_more(windows, due)
        )

    def set_again(self, windows: pl.DataFrame, clock: str, now: int) -> None:
        """Lets windows that were woken too early wait for the time of the clock that each has in a column."""
        early = windows.filter(windows[clock] > now)
        if early.height:
            times = early[clock]
            self._waiting.add(early[[*self._keys, START, END]].hstack([times.alias(WAIT)]))
            first = int(times.min())  # type: ignore[arg-type]
            self.next = first if self.next is None else min(self.next, first)

    def due(self, now: int) -> Iterator[pl.DataFrame]:
        """Takes out the windows whose time has come, some thousand at a time."""
        yield from self._waiting.due(now)
        self.next = self._waiting.earliest()

    def first(self, most: int) -> tuple[pl.DataFrame | None, bool]:
        """The first windows, no more than `most` (None if there are none), with their times in WAIT; and whether these
        are all."""
        return self._waiting.first(most)

    def forget(self, pane: int) -> None:
        """Forgets what is known of a pane's windows; they still wait."""
        self._pending.pop(pane, None)

    def forget_all(self) -> None:
        """The same for all panes."""
        self._pending.clear()

    def clear(self) -> None:
        """Removes all windows."""
        self._waiting.clear()
        self._pending.clear()
        self.next = None

    def snapshot(self) -> OperatorSnapshot:
        """All windows that wait."""
        return self._waiting.snapshot()

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores `snapshot`'s state."""
        self._waiting.restore(parts)
        self.next = self._waiting.earliest()
