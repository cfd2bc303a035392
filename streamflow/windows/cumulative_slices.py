"""Cumulative windows cut into slices as long as a step: a slice is in the windows of its period that end after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from streamflow.windows.assigners import Cumulative

__all__ = ["CumulativeSlices"]

Time = TypeVar("Time", int, pl.Expr, pl.Series)


@dataclass(frozen=True, slots=True)
class CumulativeSlices:
    """The slices of windows `[p, p + k · step)` with `p ≡ offset (mod size)` and `k · step ≤ size`.

    >>> day = CumulativeSlices.of(Cumulative(size=24, step=6))
    >>> day.start(31), [day.nth_end(30, n) for n in range(4)], day.start_of(36)
    (30, [48, 42, 36, 30], 24)
    """

    size: int
    step: int
    offset: int

    @classmethod
    def of(cls, assigner: Cumulative) -> CumulativeSlices:
        return cls(assigner.size, assigner.step, assigner.offset)

    @property
    def gaps(self) -> bool:
        return False

    @property
    def per_slice(self) -> int:
        return self.size // self.step

    @property
    def width(self) -> int:
        return self.step

    def start(self, time: Time) -> Time:
        return time - (time - self.offset) % self.step

    def start_of(self, end: Time) -> Time:
        return end - 1 - (end - 1 - self.offset) % self.size

    def last_end(self, slice_start: Time) -> Time:
        return slice_start - (slice_start - self.offset) % self.size + self.size

    def end_after(self, time: Time) -> Time:
        return time + self.step - (time - self.offset) % self.step

    def end_until(self, time: int) -> int:
        return time - (time - self.offset) % self.step

    def ends(self, first: int, last: int) -> Sequence[int]:
        return range(first, last + 1, self.step)

    def nth_end(self, slice_start: Time, number: int) -> Time:
        return self.last_end(slice_start) - number * self.step
