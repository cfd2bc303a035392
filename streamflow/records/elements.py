"""What flows between tasks: a closed union, matched in one place (the task loop). Never a lone record."""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.records.batch import RowBatch
from streamflow.records.frame import FrameBatch

__all__ = ["AnyBatch", "Barrier", "EndOfInput", "Idle", "StreamElement", "Watermark"]


@dataclass(frozen=True, slots=True)
class Watermark:
    """No more events with a time ≤ `time` (microseconds) are expected on this channel."""

    time: int


@dataclass(frozen=True, slots=True)
class Barrier:
    """The end of epoch `epoch`: everything before it belongs to that epoch, everything after to the next."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Idle:
    """This channel holds no watermark back until it speaks again."""


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """Nothing follows on this channel. `drained` is False where the job was stopped before the input's end: then
    what is still open is no result."""

    drained: bool = True


AnyBatch = FrameBatch | RowBatch
StreamElement = FrameBatch | RowBatch | Watermark | Barrier | Idle | EndOfInput
