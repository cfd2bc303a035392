"""The closing of windows that are cut into slices: which windows a watermark closes, and the rows in them.

Rows wait by slice in buckets, of one store or of several that are read together. Firing works on many windows at once
where they hold little, since sparse data over a long time has more windows than rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.operators.aggregates.partials import END, SLICE
from streamflow.operators.contract.waiting import Waiting, the_window
from streamflow.operators.windows.buckets import Buckets
from streamflow.windows.slicing import Slices

__all__ = ["Closing", "ClosingWindows", "in_windows"]

_CHUNK_ROWS: Final = 200_000
"""The approximate number of rows whose windows close at once at the end of a batch job, unless said otherwise."""
_CHUNK_SHARE: Final = 0.5
"""The approximate largest share of the part that can be worked on at a time, unless a single window takes more."""


class Closing(NamedTuple):
    """The windows that end in [`end`, `until`], and the buckets of each store that have rows of them, by time."""

    end: int
    until: int
    read: list[list[int]]


class ClosingWindows:
    """The windows of slices whose rows are in `buckets`. `kept`: how long a bucket stays after its last window has
    closed, in microseconds. `at_once`: the approximate number of rows whose windows close at once."""

    def __init__(self, slicing: Slices, *buckets: Buckets, kept: int = 0, at_once: int = _CHUNK_ROWS) -> None:
        self._slicing = slicing
        self._buckets = buckets
        self._kept = kept
        self._at_once = at_once

    def closed_by(self, previous: int, watermark: int) -> Iterator[Closing]:
        """The windows whose last moment lies in (previous, watermark], some at a time; what those at one time need is
        dropped before the next ones are given, as far as no other window needs it."""
        slicing, end = self._slicing, self._first(previous)
        if end is None or end > watermark + 1:
            return
        last = slicing.end_until(min(watermark + 1, self._latest()))
        while end <= last:
            # On to the first window that has data, then as many buckets as make a chunk.
            ahead = sorted(
                (span.low, number, bucket)
                for number, each in enumerate(self._buckets)
                for bucket, span in each.spans.items()
                if span.high >= slicing.start_of(end)
            )
            if not ahead or ahead[0][0] >= last:
                return
            end = max(end, slicing.end_after(ahead[0][0]))
            until, rows, share = last, 0, 0.0
            read: list[list[int]] = [[] for _ in self._buckets]
            for low, number, bucket in ahead:
                # Windows that end by the next bucket's beginning need nothing of it.
                complete = slicing.end_until(low)
                if complete >= last:
                    break
                if (rows >= self._at_once or share >= _CHUNK_SHARE) and complete >= end:
                    until = complete
                    break
                read[number].append(bucket)
                rows += self._buckets[number].rows(bucket)
                share += self._buckets[number].share(bucket)
            yield Closing(end, until, read)
            end = slicing.end_after(until)
            if end <= last:  # Release what is done with before reading more.
                self.drop(until - 1)

    def drop(self, watermark: int) -> None:
        """Removes the buckets of which no window can fire again."""
        for each in self._buckets:
            for bucket, span in list(each.spans.items()):
                if self._slicing.last_end(span.high) - 1 + self._kept <= watermark:
                    each.drop(bucket)

    def work_at(self, previous: int, watermark: int) -> int:
        """The number of rows that a watermark works on which comes after the `previous` one."""
        end = self._first(previous)
        if end is None or end > watermark + 1:
            return 0
        return sum(
            each.rows(bucket)
            for each in self._buckets
            for bucket, span in each.spans.items()
            if span.low <= watermark
        )

    def waiting(self, watermark: int) -> tuple[Waiting, ...]:
        """The window that closes next after this watermark, with the rows of all."""
        end = self._first(watermark)
        if end is None or end > self._latest():
            return ()
        held = sum(each.rows(bucket) for each in self._buckets for bucket in each.spans)
        return (Waiting(the_window(self._slicing.start_of(end), end), end - 1, held),)

    def _first(self, watermark: int) -> int | None:
        """The end of the first window after this watermark that may hold rows; None if there are no rows."""
        lows = [span.low for each in self._buckets for span in each.spans.values()]
        return self._slicing.end_after(max(watermark + 1, min(lows))) if lows else None

    def _latest(self) -> int:
        """The end of the last window that has rows (at least one)."""
        return self._slicing.last_end(
            max(span.high for each in self._buckets for span in each.spans.values())
        )


def in_windows(rows: pl.DataFrame, slicing: Slices, ends: Sequence[int]) -> pl.DataFrame:
    """Rows of slices, each once for each of its windows with one of these successive ends, with the window's END."""
    slices = rows[SLICE]
    if len(ends) <= slicing.per_slice:
        columns = [pl.Series([end]).new_from_index(0, len(slices)) for end in ends]
    else:
        columns = [slicing.nth_end(slices, number) for number in range(slicing.per_slice)]
    copies: list[pl.DataFrame] = []
    for end in columns:
        within = (slicing.start_of(end) <= slices) & (end > slices) & (end >= ends[0]) & (end <= ends[-1])
        copy = rows.hstack([end.alias(END)])
        copies.append(copy if within.all() else copy.filter(within))
    return concatenated(copies)
