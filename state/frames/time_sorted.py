"""Rows in the order of a time column: the buffer of a process, and the times at which sessions are due.

They lie in a `FrameStore`, by spans of time, so that they spill when memory is short, are part of snapshots, and
go with their keys when a job is rescaled. The spans are chosen so that one holds some thousand rows: the cost of
taking out due rows follows their number, whatever waits behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.partition import partitioned
from streamflow.errors import DamagedError
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.memory_share import MemoryShare
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart

__all__ = ["TimeSorted"]

_ROWS: Final = 8_192
"""The number of rows that a span should have."""
_SPANS: Final = 256
"""The largest number of spans: each costs something when rows are added."""
_AT_ONCE: Final = 32_768
_GONE_OVER: Final = 1 << 18
_WIDEST: Final = 1 << 62
_SPAN: Final = "span"


class TimeSorted:
    """The rows of one subtask that wait for the time in their column `time`.

    `state` names them in snapshots. `ties`: the columns by which rows of one moment are ordered; none: by arrival.
    """

    def __init__(
        self,
        backend: KeyedStateBackend,
        operator_id: str,
        memory: MemoryShare | int,
        keys: OwnedKeys,
        *,
        time: str,
        state: str,
        ties: Sequence[str] = (),
    ) -> None:
        self._store = FrameStore(backend, operator_id, self._unchanged, memory, keys, state=state)
        self._name = time
        self._time = pl.col(time).to_physical()
        self._ties = list(ties)
        # Never wider than before: rows of one moment lie in spans that ascend with their arrival.
        self._width = _WIDEST
        self._low = self._high = 0
        self._measured = 2 * _ROWS

    def __len__(self) -> int:
        return self._store.rows

    def add(self, frame: pl.DataFrame) -> None:
        """Adds rows."""
        if frame.is_empty():
            return
        times = frame[self._name].cast(pl.Int64)
        low, high = int(times.min()), int(times.max())  # type: ignore[arg-type]
        self._measure(low, high, frame.height)
        for span, part in partitioned(frame, times - times % self._width):
            self._store.append(span, part)

    def due(self, limit: int) -> Iterator[pl.DataFrame]:
        """Takes out the rows up to `limit`, some thousand at a time, in order of time."""
        reached = limit - 1
        while reached < limit:
            frame, reached = self.take(limit)
            if frame is not None:
                yield frame

    def take(self, limit: int, at_once: int = 0) -> tuple[pl.DataFrame | None, int]:
        """Takes out some thousand rows, or at least `at_once`, the first up to `limit`, in order of time (None if there
        are none), and gives the time up to which all are out."""
        frames: list[pl.DataFrame] = []
        until, rows = limit, 0
        for span in takewhile(lambda span: span <= limit, self._store.panes()):
            # A wide span from when there were few rows may hold later ones only.
            if rows >= max(_AT_ONCE, at_once) and any(
                frame.select(self._time.lt(span).any()).item() for frame in frames
            ):
                until = span - 1
                break
            frames.append(self._store.read(span))
            rows += frames[-1].height
            self._store.drop(span)
        self._low = max(self._low, min(until, self._high))
        if not frames:
            return None, until
        frame = concatenated(frames)
        ready = frame.filter(self._time.le(until))
        if ready.height < frame.height:
            self._store.append(until // self._width * self._width, frame.filter(self._time.gt(until)))
        return (self._ordered(ready) if ready.height else None), until

    def rows_by(self, limit: int) -> int:
        """The estimated number of rows up to `limit`."""
        return sum(map(self._store.rows_in, takewhile(lambda span: span <= limit, self._store.panes())))

    def earliest(self) -> int | None:
        """The time of the first row; None if there is none. The cost is that of one span, or of a few."""
        found: int | None = None
        for span in self._store.panes():
            # A wide span from when there were few rows may hold later ones only.
            if found is not None and span > found:
                break
            for rows in self._store.pieces(span):
                first = int(rows[self._name].cast(pl.Int64).min())  # type: ignore[arg-type]
                found = first if found is None else min(first, found)
        return found

    def first(self, most: int) -> tuple[pl.DataFrame | None, bool]:
        """The first rows in order of time, no more than `most` (None if there are none), and whether these are all.
        The cost is that of one span, or of a few, and bounded: of more than a quarter of a million rows of about one
        moment some are not looked at."""
        found: pl.DataFrame | None = None
        gone_over = 0
        for span in self._store.panes():
            if found is not None and found.height == most and span > int(found[self._name].to_physical()[-1]):
                return found, False
            for piece in self._store.pieces(span):
                gone_over += piece.height
                rows = piece if found is None else concatenated([found, piece])
                found = rows.bottom_k(most, by=self._time).sort(self._name)
                if gone_over > _GONE_OVER and found.height == most:
                    return found, False
        return found, gone_over <= most

    def clear(self) -> None:
        """Removes all rows."""
        self._store.clear()

    def snapshot(self) -> OperatorSnapshot:
        """The waiting records."""
        kept = self._store.snapshot()
        return OperatorSnapshot({**kept.values, _SPAN: self._width}, kept.tables, kept.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Restores the waiting records of the own keys."""
        mine = [part for part in parts if _SPAN in part.values]
        self._width = min((part.number(_SPAN) for part in mine), default=_WIDEST)
        self._store.restore(mine)

    def _measure(self, low: int, high: int, rows: int) -> None:
        """Chooses the width of spans from now on."""
        self._low, self._high = (min(self._low, low), max(self._high, high)) if len(self) else (low, high)
        total = len(self) + rows
        if total < self._measured:
            return
        self._measured = 2 * total
        count = min(max(total // _ROWS, 1), _SPANS)
        wanted = (self._high - self._low) // count + 1
        while self._width // 2 >= wanted:
            self._width //= 2

    def _ordered(self, frame: pl.DataFrame) -> pl.DataFrame:
        ordered = frame.sort(self._name, maintain_order=True)
        if self._ties and ordered[self._name].n_unique() < ordered.height:
            return frame.sort([self._name, *self._ties], maintain_order=True)
        return ordered

    def _unchanged(self, frame: pl.DataFrame) -> pl.DataFrame:
        if self._name not in frame.columns:
            raise DamagedError(f"rows that wait for their turn have no {self._name!r}")
        return frame
