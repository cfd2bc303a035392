"""`FrameBatch`: a batch as a Polars DataFrame, the layout wherever the schema is known.

Event time is the reserved column `__event_time` (`Datetime("us", "UTC")`), absent if the stream has none. If a
process behind has timers, `__watermark` is the watermark made right before each record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, WATERMARK
from streamflow.time.timestamps import MIN_TIME

__all__ = ["FrameBatch"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """A Polars DataFrame with event times in the column `__event_time` (if any) and the watermark before each record
    in `__watermark` (if carried).

    >>> from datetime import datetime, UTC
    >>> frame = pl.DataFrame({"k": ["a"], "__event_time": [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)]})
    >>> FrameBatch(frame).max_time
    1000000
    """

    frame: pl.DataFrame

    def __len__(self) -> int:
        return self.frame.height

    @property
    def nbytes(self) -> int:
        return int(self.frame.estimated_size())

    @property
    def timed(self) -> bool:
        """Whether the batch carries event times."""
        return EVENT_TIME in self.frame.columns

    @property
    def max_time(self) -> int | None:
        if not self.timed or self.frame.is_empty():
            return None
        largest = self.frame[EVENT_TIME].cast(pl.Int64).max()
        return None if largest is None else int(largest)  # type: ignore[arg-type]

    def all_later_than(self, time: int) -> bool:
        """Whether each record has an event time, and a later one than `time`."""
        if not self.timed:
            return False
        times = self.frame[EVENT_TIME].cast(pl.Int64)
        return len(times) > 0 and not times.has_nulls() and int(times.min()) > time  # type: ignore[arg-type]

    @property
    def marked(self) -> bool:
        """Whether each record carries the watermark before it."""
        return WATERMARK in self.frame.columns

    @property
    def last_mark(self) -> int:
        """The watermark before the last record, in microseconds; only for marked records."""
        mark: int = self.frame[WATERMARK].to_physical()[-1]
        return mark

    def within(self, low: int, high: int, *, less: int = 0, behind: int | None = None) -> FrameBatch:
        """The same records with their watermarks made smaller by `less` and clamped to [`low`, `high`]; `low` wins.

        With `behind`, a watermark less than `behind` before its record's time becomes MIN_TIME. All in microseconds.
        """
        mark = pl.col(WATERMARK).to_physical()
        # Before the first watermark there is none, and nothing to subtract.
        mark = pl.when(mark > MIN_TIME).then(mark - less).otherwise(MIN_TIME)
        mark = mark.clip(upper_bound=high).clip(lower_bound=low)
        if high <= low:
            mark = pl.lit(low, pl.Int64)
        if behind is not None:
            in_order = mark <= pl.col(EVENT_TIME).to_physical() - behind
            mark = pl.when(in_order).then(mark).otherwise(MIN_TIME)
        return FrameBatch(self.frame.with_columns(mark.cast(EVENT_TIME_TYPE).alias(WATERMARK)))

    def unmarked(self) -> FrameBatch:
        """The same records without the watermarks that they carry."""
        return FrameBatch(self.frame.drop(WATERMARK)) if self.marked else self

    def part(self, start: int, stop: int) -> FrameBatch:
        """The records from position `start` up to `stop`."""
        return FrameBatch(self.frame[start:stop])

    def chosen(self, keep: Sequence[bool]) -> FrameBatch:
        """The records for which `keep` is true."""
        return FrameBatch(self.frame.filter(pl.Series(keep, dtype=pl.Boolean)))

    def user_frame(self) -> pl.DataFrame:
        """The frame without reserved columns."""
        return self.frame.drop(EVENT_TIME, WATERMARK, strict=False) if self.timed else self.frame
