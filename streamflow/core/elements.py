"""What flows between tasks: a closed union, matched in one place (the task loop). Never a lone record."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.time.timestamps import MIN_TIME

__all__ = ["Active", "AnyBatch", "Barrier", "End", "EndOfInput", "Idle", "StreamElement", "Watermark"]


@dataclass(frozen=True, slots=True)
class End:
    """How far event time had come when the inputs ended, in microseconds: the `last` event's time, and the `watermark`
    that it had made; MIN_TIME where there was none. `times` are those of all events, each once and in order, where
    events will be put in order.

    >>> End(5, 2).later(End(4, 3))
    End(last=5, watermark=3)
    """

    last: int = MIN_TIME
    watermark: int = MIN_TIME
    times: pl.Series | None = field(default=None, repr=False, compare=False)

    def later(self, other: End) -> End:
        """The end of both."""
        known = [each.times for each in (self, other) if each.times is not None]
        times = known[0] if len(known) == 1 else pl.concat(known).unique().sort() if known else None
        return End(max(self.last, other.last), max(self.watermark, other.watermark), times)


@dataclass(frozen=True, slots=True)
class Watermark:
    """No more events with a time ≤ `time` (microseconds) are expected on this channel. `end` stands beside +∞."""

    time: int
    end: End | None = None


@dataclass(frozen=True, slots=True)
class Barrier:
    """The end of epoch `epoch`: everything before it belongs to that epoch, everything after to the next."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Idle:
    """This channel holds no watermark back until it speaks again."""


@dataclass(frozen=True, slots=True)
class Active:
    """This channel has been idle and is no longer: it counts again once its watermark has caught up."""


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """Nothing follows on this channel. `drained` is False where the job was stopped before the input's end: then
    what is still open is no result."""

    drained: bool = True


AnyBatch = FrameBatch | RowBatch
StreamElement = FrameBatch | RowBatch | Watermark | Barrier | Idle | Active | EndOfInput
