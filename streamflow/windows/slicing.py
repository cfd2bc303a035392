"""Windows cut into slices, so that a record is aggregated once, whatever size and slide are.

A slice is a stretch of time in which no window starts or ends; all its records are in the same windows. With
`tail = size mod every`, windows start at `offset (mod every)` and end at `offset + tail (mod every)`: one slice per
slide where `tail` is zero, otherwise two. (Cutting at the greatest common divisor of size and slide gives the same for
round numbers and thousands of slices for odd ones; two per slide are Krishnamurthy's "paired windows", SIGMOD 2006.)

Everything here is arithmetic on microseconds that works alike on Python integers, Polars expressions and Series; `//`
and `%` round towards minus infinity in all three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import polars as pl

from streamflow.windows.assigners import Calendar, Cumulative, Sliding, Tumbling
from streamflow.windows.calendar_slices import CalendarSlices
from streamflow.windows.cumulative_slices import CumulativeSlices

__all__ = ["SlicedAssigner", "Slices", "Slicing", "slice_expression", "slice_function", "slices_of"]

Time = TypeVar("Time", int, pl.Expr, pl.Series)
Known = TypeVar("Known", int, pl.Series)

SlicedAssigner = Tumbling | Sliding | Cumulative | Calendar
"""The assigners whose windows are cut into slices."""


class Slices(Protocol):
    """Windows cut into slices. Each window is known by its end; a later end has no earlier start. Times are
    microseconds, as integers or Series."""

    @property
    def width(self) -> int:
        """The usual length of a slice."""
        ...

    @property
    def offset(self) -> int:
        """The beginning of a slice, if all are equally long."""
        ...

    @property
    def per_slice(self) -> int:
        """The largest number of windows that hold one slice."""
        ...

    @property
    def gaps(self) -> bool:
        """Whether some times belong to no window."""
        ...

    def start(self, time: Known) -> Known:
        """The start of the slice that holds `time`."""
        ...

    def start_of(self, end: Known) -> Known:
        """The start of the window that ends there."""
        ...

    def last_end(self, slice_start: Known) -> Known:
        """The end of the slice's last window; not after `slice_start` if the slice is in a gap."""
        ...

    def end_after(self, time: Known) -> Known:
        """The smallest window end that is larger than `time`."""
        ...

    def end_until(self, time: int) -> int:
        """The largest window end that is not larger than `time`."""
        ...

    def ends(self, first: int, last: int) -> Sequence[int]:
        """The window ends from `first`, which is one, to `last`."""
        ...

    def nth_end(self, slice_start: Known, number: int) -> Known:
        """The end of the window that is so many before the slice's last one; it holds the slice if it starts and ends
        around it."""
        ...


@dataclass(frozen=True, slots=True)
class Slicing:
    """The slices of windows `[s, s + size)` with `s ≡ offset (mod every)`.

    >>> minute = Slicing.of(Sliding(size=60, every=10))
    >>> minute.start(17), list(minute.windows(10))
    (10, [-40, -30, -20, -10, 0, 10])
    """

    size: int
    every: int
    offset: int

    @classmethod
    def of(cls, assigner: Tumbling | Sliding) -> Slicing:
        every = assigner.size if isinstance(assigner, Tumbling) else assigner.every
        return cls(assigner.size, every, assigner.offset)

    @property
    def width(self) -> int:
        return self.every

    @property
    def tail(self) -> int:
        """The distance from a window's start to the end of another; 0 if ends and starts coincide."""
        return self.size % self.every

    @property
    def per_slice(self) -> int:
        """The largest number of windows that hold one slice."""
        return -(-self.size // self.every)

    @property
    def gaps(self) -> bool:
        """Whether some times belong to no window."""
        return self.every > self.size

    def start(self, time: Time) -> Time:
        """The start of the slice that holds `time` (microseconds)."""
        phase = (time - self.offset) % self.every
        if not self.tail:
            return time - phase
        if isinstance(phase, int):
            return time - phase + (self.tail if phase >= self.tail else 0)
        return time - phase + (phase >= self.tail).cast(pl.Int64) * self.tail

    def last_window(self, slice_start: Time) -> Time:
        """The start of the last window that can hold the slice: the largest window start not after it."""
        return slice_start - (slice_start - self.offset) % self.every

    def last_end(self, slice_start: Time) -> Time:
        """The end of the slice's last window; not after `slice_start` if the slice is in a gap."""
        return self.last_window(slice_start) + self.size

    def end_after(self, time: Time) -> Time:
        """The smallest window end that is larger than `time`."""
        return time + self.every - (time - self.offset - self.size) % self.every

    def end_until(self, time: int) -> int:
        """The largest window end that is not larger than `time`."""
        return time - (time - self.offset - self.size) % self.every

    def start_of(self, end: Time) -> Time:
        """The start of the window that ends there."""
        return end - self.size

    def ends(self, first: int, last: int) -> Sequence[int]:
        """The window ends from `first`, which is one, to `last`."""
        return range(first, last + 1, self.every)

    def nth_end(self, slice_start: Time, number: int) -> Time:
        """The end of the window that is so many before the slice's last one."""
        return self.last_end(slice_start) - number * self.every

    def windows(self, slice_start: int) -> Iterator[int]:
        """The starts of all windows that hold the slice, ascending; none in a gap."""
        last = self.last_window(slice_start)
        for step in range(self.per_slice - 1, -1, -1):
            start = last - step * self.every
            if start + self.size > slice_start:
                yield start


def slices_of(assigner: SlicedAssigner) -> Slices:
    """The slices of an assigner's windows."""
    match assigner:
        case Calendar():
            return CalendarSlices.of(assigner)
        case Cumulative():
            return CumulativeSlices.of(assigner)
        case _:
            return Slicing.of(assigner)


def slice_expression(assigner: SlicedAssigner, time: pl.Expr) -> pl.Expr | None:
    """The start of a record's slice as an expression; None if `slice_function` has to find it."""
    match assigner:
        case Calendar():
            return None
        case Cumulative():
            return CumulativeSlices.of(assigner).start(time)
        case _:
            return Slicing.of(assigner).start(time)


def slice_function(assigner: object) -> Callable[[pl.Series], pl.Series] | None:
    """The function from times to the starts of their slices, where no expression says it."""
    return CalendarSlices.of(assigner).start if isinstance(assigner, Calendar) else None
