"""Windows cut into slices, so that a record is aggregated once, whatever size and slide are.

A slice is a stretch of time in which no window starts or ends; all its records are in the same windows. With
`tail = size mod every`, windows start at `offset (mod every)` and end at `offset + tail (mod every)`: one slice per
slide where `tail` is zero, otherwise two. (Cutting at the greatest common divisor of size and slide gives the same for
round numbers and thousands of slices for odd ones; two per slide are Krishnamurthy's "paired windows", SIGMOD 2006.)

Everything here is arithmetic on microseconds that works alike on Python integers, Polars expressions and Series; `//`
and `%` round towards minus infinity in all three.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from streamflow.windows.assigners import Sliding, Tumbling

__all__ = ["Slicing"]

Time = TypeVar("Time", int, pl.Expr, pl.Series)


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

    def first_end(self, slice_start: Time) -> Time:
        """The end of the slice's first window: the smallest window end after `slice_start`."""
        return self.end_after(slice_start)

    def end_after(self, time: Time) -> Time:
        """The smallest window end that is larger than `time`."""
        return time + self.every - (time - self.offset - self.size) % self.every

    def end_until(self, time: Time) -> Time:
        """The largest window end that is not larger than `time`."""
        return time - (time - self.offset - self.size) % self.every

    def windows(self, slice_start: int) -> Iterator[int]:
        """The starts of all windows that hold the slice, ascending; none in a gap."""
        last = self.last_window(slice_start)
        for step in range(self.per_slice - 1, -1, -1):
            start = last - step * self.every
            if start + self.size > slice_start:
                yield start
