"""The elements that flow between tasks: a closed union, matched in one place (the task loop). Never a single record."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.time.timestamps import MIN_TIME

__all__ = ["Active", "AnyBatch", "Barrier", "End", "EndOfInput", "Idle", "StreamElement", "Watermark"]


@dataclass(frozen=True, slots=True)
class End:
    """Event time at the end of the inputs, in microseconds: the `last` event's time, and the `watermark` that it
    made.

    MIN_TIME stands for none. `times` are the distinct times of all events in order, if events are to be put in order.

    >>> End(5, 2).later(End(4, 3))
    End(last=5, watermark=3)
    """

    last: int = MIN_TIME
    watermark: int = MIN_TIME
    times: pl.Series | None = field(default=None, repr=False, compare=False)

    def later(self, other: End) -> End:
        """The later end of the two."""
        known = [each.times for each in (self, other) if each.times is not None]
        times = known[0] if len(known) == 1 else pl.concat(known).unique().sort() if known else None
        return End(max(self.last, other.last), max(self.watermark, other.watermark), times)


@dataclass(frozen=True, slots=True)
class Watermark:
    """A promise that no more events with a time ≤ `time` (µs) come on this channel; `end` stands beside +∞."""

    time: int
    end: End | None = None


@dataclass(frozen=True, slots=True)
class Barrier:
    """The end of epoch `epoch`: everything before it belongs to that epoch, everything after to the next."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Idle:
    """An idle channel: it holds no watermark back until it sends again."""


@dataclass(frozen=True, slots=True)
class Active:
    """A channel that is no longer idle: it counts again once its watermark has caught up."""


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """The last element of a channel. `drained` is False if the job was stopped before the input's end: open windows
    are then no results."""

    drained: bool = True


AnyBatch = FrameBatch | RowBatch
StreamElement = FrameBatch | RowBatch | Watermark | Barrier | Idle | Active | EndOfInput
