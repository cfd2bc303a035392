"""A batch: values and event times of many records, in one of two layouts with the same methods.

`RowBatch` (here) is a list of Python values with a parallel list of event times: what Python functions see.
`FrameBatch` (`core.frame`) is a Polars DataFrame. Batches are immutable: an operator makes a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import compress
from typing import Any

from streamflow.core.sizes import size_of_rows
from streamflow.time.timestamps import MIN_TIME

__all__ = ["Layout", "RowBatch"]


class Layout(Enum):
    """The batch layout that an operator takes; the planner puts a visible `Convert` between two that differ."""

    FRAME = "frame"
    ROWS = "rows"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Python values and their event times (microseconds, UTC; None where the stream has no event time).

    `marks` are the watermarks right before each record, present if a process behind has timers.

    >>> batch = RowBatch(["a", "b"], [10, 20])
    >>> len(batch), batch.max_time
    (2, 20)
    """

    values: Sequence[Any]
    times: Sequence[int] | None = None
    marks: Sequence[int] | None = None
    _nbytes: int | None = field(default=None, init=False, repr=False, compare=False)
    """The size, kept after the first call: every operator and channel on the way asks for it."""

    def __post_init__(self) -> None:
        if self.times is not None and len(self.times) != len(self.values):
            raise ValueError(f"{len(self.values)} values but {len(self.times)} event times")
        if self.marks is not None and len(self.marks) != len(self.values):
            raise ValueError(f"{len(self.values)} values but {len(self.marks)} watermarks")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        nbytes = self._nbytes
        if nbytes is None:
            nbytes = size_of_rows(self.values)
            object.__setattr__(self, "_nbytes", nbytes)
        return nbytes

    @property
    def max_time(self) -> int | None:
        return max(self.times) if self.times else None

    def all_later_than(self, time: int) -> bool:
        """Whether each record has an event time, and a later one than `time`."""
        return self.times is not None and all(each > time for each in self.times)

    @property
    def marked(self) -> bool:
        """Whether each record carries the watermark before it."""
        return self.marks is not None

    @property
    def last_mark(self) -> int:
        """The watermark before the last record; only for marked records."""
        assert self.marks
        return self.marks[-1]

    def within(self, low: int, high: int, *, less: int = 0, behind: int | None = None) -> RowBatch:
        """The same records with their watermarks made smaller by `less` and clamped to [`low`, `high`]; `low` wins.

        With `behind`, a watermark less than `behind` before its record's time becomes MIN_TIME. All in microseconds.
        """
        assert self.marks is not None
        # Before the first watermark there is none, and nothing to subtract.
        marks = [max(low, min(high, mark - less if mark > MIN_TIME else mark)) for mark in self.marks]
        if behind is not None:
            assert self.times is not None
            pairs = zip(marks, self.times, strict=True)
            marks = [mark if mark <= time - behind else MIN_TIME for mark, time in pairs]
        return RowBatch(self.values, self.times, marks)

    def unmarked(self) -> RowBatch:
        """The same records without the watermarks that they carry."""
        return self if self.marks is None else RowBatch(self.values, self.times)

    def part(self, start: int, stop: int) -> RowBatch:
        """The records from position `start` up to `stop`."""

        def between(items: Sequence[int] | None) -> Sequence[int] | None:
            return None if items is None else items[start:stop]

        return RowBatch(self.values[start:stop], between(self.times), between(self.marks))

    def chosen(self, keep: Sequence[Any]) -> RowBatch:
        """The records for which `keep` is true."""

        def kept(items: Sequence[Any] | None) -> list[Any] | None:
            return None if items is None else list(compress(items, keep))

        return RowBatch(list(compress(self.values, keep)), kept(self.times), kept(self.marks))
