"""A batch: values and event times of many records, in one of two layouts behind one protocol.

`RowBatch` (here) is a list of Python values with a parallel list of event times: what Python functions see.
`FrameBatch` (`records.frame`) is a Polars DataFrame. Batches are immutable: an operator makes a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import compress
from typing import Any, Protocol, runtime_checkable

from streamflow.core.sizes import size_of_rows
from streamflow.time.timestamps import MIN_TIME

__all__ = ["Batch", "Layout", "RowBatch"]


class Layout(Enum):
    """How an operator wants its batches; the planner puts a visible `Convert` between two that differ."""

    FRAME = "frame"
    ROWS = "rows"
    ANY = "any"


@runtime_checkable
class Batch(Protocol):
    """What channels, exchanges and metrics need to know of a batch."""

    @property
    def layout(self) -> Layout: ...

    @property
    def nbytes(self) -> int:
        """An estimate of its size in memory, for channel credit."""
        ...

    @property
    def max_time(self) -> int | None:
        """The largest event time in microseconds; None if it is empty or carries no event time."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Python values and their event times (microseconds, UTC; None where the stream has no event time).

    `marks` are the watermarks right before each record, where a process behind has timers.

    >>> batch = RowBatch(["a", "b"], [10, 20])
    >>> len(batch), batch.max_time
    (2, 20)
    """

    values: Sequence[Any]
    times: Sequence[int] | None = None
    marks: Sequence[int] | None = None
    layout: Layout = field(default=Layout.ROWS, init=False, repr=False)
    _nbytes: int | None = field(default=None, init=False, repr=False, compare=False)
    """Its size, once somebody has asked: every operator and channel on its way does."""

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

    @property
    def marked(self) -> bool:
        """Whether each record carries the watermark before it."""
        return self.marks is not None

    @property
    def last_mark(self) -> int:
        """The watermark before the last record; of records that carry one."""
        assert self.marks
        return self.marks[-1]

    def within(self, low: int, high: int, *, less: int = 0, behind: int | None = None) -> RowBatch:
        """The same records, whose watermarks are made smaller by `less` and then lie between two bounds; the lower one
        counts more. One that is then less than `behind` before its record's time becomes that of the beginning."""
        assert self.marks is not None
        # Before the first watermark there is none, and nothing to take off.
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
        """The records from one position to another."""

        def between(items: Sequence[int] | None) -> Sequence[int] | None:
            return None if items is None else items[start:stop]

        return RowBatch(self.values[start:stop], between(self.times), between(self.marks))

    def chosen(self, keep: Sequence[Any]) -> RowBatch:
        """The records for which `keep` is true."""

        def kept(items: Sequence[Any] | None) -> list[Any] | None:
            return None if items is None else list(compress(items, keep))

        return RowBatch(list(compress(self.values, keep)), kept(self.times), kept(self.marks))
