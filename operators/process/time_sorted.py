"""Records that wait for their turn in event-time order: the buffer of a process.

They lie in a `FrameStore`, by spans of event time, so that they spill under the memory budget, are part of snapshots,
and go with their keys when a job is rescaled. The spans are chosen so that one holds some thousand records: what a
watermark makes due costs about as much as there is of it, whatever waits behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.schema import EVENT_TIME
from streamflow.errors import DamagedError
from streamflow.operators.contract.operator import OperatorContext
from streamflow.state.frames.store import FrameStore
from streamflow.state.keyed.owned_keys import OwnedKeys
from streamflow.state.operator_snapshot import OperatorSnapshot, StatePart

__all__ = ["TimeSorted"]

_ROWS: Final = 8_192
"""So many records a span is to have."""
_SPANS: Final = 256
"""So many spans at most: each costs something when records are added."""
_AT_ONCE: Final = 32_768
_WIDEST: Final = 1 << 62
_TIME: Final = pl.col(EVENT_TIME).to_physical()
_STATE: Final = "waiting"


class TimeSorted:
    """The records of one subtask that wait.

    `ties`: the columns by which records of one moment are ordered; none: by arrival.
    """

    def __init__(self, ctx: OperatorContext, keys: Sequence[str], ties: Sequence[str]) -> None:
        owned = OwnedKeys(tuple(keys), ctx.groups, ctx.max_parallelism)
        self._store = FrameStore(
            ctx.state, ctx.operator_id, _unchanged, ctx.memory_budget, owned, state=_STATE
        )
        self._ties = list(ties)
        # Never wider than before: records of one moment lie in spans that ascend with their arrival.
        self._width = _WIDEST
        self._low = self._high = 0
        self._measured = 2 * _ROWS

    def __len__(self) -> int:
        return self._store.rows

    def add(self, frame: pl.DataFrame) -> None:
        """Records with their event times."""
        if frame.is_empty():
            return
        times = frame[EVENT_TIME].to_physical()
        low, high = int(times.min()), int(times.max())  # type: ignore[arg-type]
        self._measure(low, high, frame.height)
        if low // self._width == high // self._width:
            self._store.append(low // self._width * self._width, frame)
            return
        spans = (times // self._width * self._width).alias("span")
        for (span,), part in frame.group_by(spans, maintain_order=True):
            self._store.append(int(span), part)

    def due(self, limit: int) -> Iterator[pl.DataFrame]:
        """Take out the records up to `limit`, some thousand at a time, in order of time. To be used up before anything
        else is done."""
        spans = [span for span in self._store.panes() if span <= limit]
        rest: pl.DataFrame | None = None
        at = 0
        while at < len(spans):
            frames = [] if rest is None else [rest]
            while at < len(spans) and sum(frame.height for frame in frames) < _AT_ONCE:
                frames.append(self._store.read(spans[at]))
                self._store.drop(spans[at])
                at += 1
            until = limit if at == len(spans) else spans[at] - 1
            frame = concatenated(frames)
            ready = frame.filter(_TIME.le(until))
            rest = frame.filter(_TIME.gt(until)) if ready.height < frame.height else None
            if ready.height:
                yield self._ordered(ready)
        if rest is not None:
            self._store.append(spans[0], rest)
        self._low = max(self._low, min(limit, self._high))

    def snapshot(self) -> OperatorSnapshot:
        """What waits."""
        kept = self._store.snapshot()
        return OperatorSnapshot({**kept.values, "span": self._width}, kept.tables, kept.keys)

    def restore(self, parts: Sequence[StatePart]) -> None:
        """Take back what waited for its turn of the own keys."""
        mine = [part for part in parts if "span" in part.values]
        self._width = min((part.number("span") for part in mine), default=_WIDEST)
        self._store.restore(mine)

    def _measure(self, low: int, high: int, rows: int) -> None:
        """Choose how wide spans are from now on."""
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
        ordered = frame.sort(EVENT_TIME, maintain_order=True)
        if self._ties and ordered[EVENT_TIME].n_unique() < ordered.height:
            return frame.sort([EVENT_TIME, *self._ties], maintain_order=True)
        return ordered


def _unchanged(frame: pl.DataFrame) -> pl.DataFrame:
    if EVENT_TIME not in frame.columns:
        raise DamagedError("events that waited for their turn have no time")
    return frame
