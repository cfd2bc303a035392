"""Broadcast records that wait for the watermark, so that they come in order of event time between the events.

Every subtask holds the same ones. Those of one moment are in the order of their columns' values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.schema import EVENT_TIME
from streamflow.core.serde import frame_to_ipc, ipc_to_frame

__all__ = ["BroadcastInOrder"]


class BroadcastInOrder:
    """The waiting broadcast records of one subtask, whose own columns are `columns`."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._by = [EVENT_TIME, *columns]
        self._waiting: list[pl.DataFrame] = []
        self.earliest: int | None = None
        """The time of the first record; None if none waits."""

    def __len__(self) -> int:
        return sum(frame.height for frame in self._waiting)

    def add(self, frame: pl.DataFrame) -> None:
        """Lets records wait."""
        if frame.height:
            first = int(frame[EVENT_TIME].to_physical().min())  # type: ignore[arg-type]
            self.earliest = first if self.earliest is None else min(self.earliest, first)
            self._waiting.append(frame)

    def due(self, until: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """Takes out the records of each moment up to `until`, with the moment."""
        if self.earliest is None or self.earliest > until:
            return
        ordered = concatenated(self._waiting).sort(self._by, nulls_last=True)
        times = ordered[EVENT_TIME].to_physical()
        taken = times.search_sorted(until, side="right")
        self._waiting, self.earliest = [], None
        self.add(ordered[taken:])
        begins = (times[:taken] != times[:taken].shift(1)).fill_null(True).arg_true()
        for start, stop in pairwise([*begins, taken]):
            yield times[start], ordered[start:stop]

    def snapshot(self) -> bytes | None:
        """All that wait; None for none."""
        return frame_to_ipc(concatenated(self._waiting)) if self._waiting else None

    def restore(self, saved: bytes | None) -> None:
        """Restores `snapshot`'s state."""
        if saved is not None:
            self.add(ipc_to_frame(saved))
