"""Days, weeks and months of a time zone as slices: each is a window by itself, with bounds looked up in a table.

A period begins at the first moment at which the clocks show its beginning or later. So periods follow one another
without gaps whatever the clocks do: where they jump over midnight the day begins at the jump (as in Java's
`LocalDate.atStartOfDay`), where they show midnight twice it begins at the first one, and a date that they skip has no
window. The table has the beginnings of the periods around the times seen so far; looking up is a binary search.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeVar, cast

import polars as pl

from streamflow.core.schema import EVENT_TIME_TYPE
from streamflow.time.timestamps import EARLIEST, LATEST
from streamflow.windows.assigners import Calendar

__all__ = ["CalendarSlices"]

Time = TypeVar("Time", int, pl.Series)

_DAY: Final = 86_400_000_000
_DAYS: Final = {"1d": 1, "1w": 7, "1mo": 30}
_MARGIN: Final = 400 * _DAY
"""The stretch of time that a table goes beyond the times seen: a period, and some for those that come next."""
_FIRST: Final = EARLIEST - _MARGIN
_LAST: Final = LATEST + _MARGIN
"""No window of an event begins or ends beyond these, where watermarks −∞ and +∞ are."""
_LOCAL: Final = pl.Datetime("us")


class CalendarSlices:
    """The windows of one `Calendar`. Times far before the year 1 and after 9999 count as the first and last.

    >>> days = CalendarSlices.of(Calendar("1d", "Europe/Berlin"))
    >>> noon = 1_711_882_800_000_000  # 2024-03-31, when the clocks are put forward
    >>> (days.end_after(noon) - days.start(noon)) // 3_600_000_000
    23
    """

    def __init__(self, assigner: Calendar) -> None:
        self._assigner = assigner
        self.gaps = False
        self.per_slice = 1
        self.offset = 0
        self.width = _DAYS[assigner.unit] * _DAY
        # One object, replaced as a whole: several threads look up in it.
        self._table = pl.Series([], dtype=pl.Int64)

    @staticmethod
    def of(assigner: Calendar) -> CalendarSlices:
        """The slices of an assigner, with one table for all who ask."""
        return _slices(assigner)

    def start(self, time: Time) -> Time:
        return self._bound(time, 0)

    def start_of(self, end: Time) -> Time:
        return self._bound(end - 1, 0)

    def last_end(self, slice_start: Time) -> Time:
        return self._bound(slice_start, 1)

    def end_after(self, time: Time) -> Time:
        return self._bound(time, 1)

    def end_until(self, time: int) -> int:
        return self._bound(time, 0)

    def ends(self, first: int, last: int) -> Sequence[int]:
        table = self._covering(first, last)
        ends = table.filter(table.is_between(first, last))
        return cast("list[int]", ends.to_list())

    def nth_end(self, slice_start: Time, number: int) -> Time:
        return self.last_end(slice_start)

    def _bound(self, time: Time, further: int) -> Time:
        """The beginning of the period that holds a time, or of the one that is so many `further`."""
        if isinstance(time, int):
            time = min(max(time, _FIRST), _LAST)
            table = self._covering(time, time)
            return int(table[table.search_sorted(time, side="right") - 1 + further])
        if time.is_empty():
            return time
        low, high = int(time.min()), int(time.max())  # type: ignore[arg-type]
        table = self._covering(low, high)
        first = self._bound(low, further)
        if low == high or self._bound(high, further) == first:
            return pl.Series(time.name, [first], pl.Int64).new_from_index(0, len(time))
        places = table.search_sorted(time, side="right").cast(pl.Int64) + (further - 1)
        return table.gather(places).alias(time.name)

    def _covering(self, low: int, high: int) -> pl.Series:
        """A table with the periods of all times from `low` to `high`, and the beginning of the one after."""
        table = self._table
        if len(table) and table[0] <= low and high < table[-1]:
            return table
        if len(table):
            low, high = min(low, table[0]), max(high, table[-1])
        self._table = table = self._beginnings(low - _MARGIN, high + _MARGIN)
        return table

    def _beginnings(self, low: int, high: int) -> pl.Series:
        """The first moments, in UTC, of the periods between two times."""
        first, last = (
            pl.lit(micros - self._assigner.offset, pl.Int64).cast(_LOCAL).dt.truncate(self._assigner.unit)
            for micros in (low, high)
        )
        dates = pl.select(pl.datetime_range(first, last, interval=self._assigner.unit)).to_series()
        local = (dates.to_physical() + self._assigner.offset).cast(_LOCAL)
        zoned = local.dt.replace_time_zone(self._assigner.tz, ambiguous="earliest", non_existent="null")
        moments = zoned.dt.convert_time_zone("UTC").to_physical()
        if moments.has_nulls():
            skipped = moments.is_null()
            found = [self._jump(moment) for moment in local.filter(skipped).to_physical()]
            moments = moments.scatter(skipped.arg_true(), found)
        return moments.unique(maintain_order=True)

    def _jump(self, local: int) -> int:
        """The moment at which the clocks jump over this time on the wall."""
        before, after = local - 2 * _DAY, local + 2 * _DAY
        while after - before > 1:
            middle = (before + after) // 2
            shown = pl.Series([middle]).cast(EVENT_TIME_TYPE).dt.convert_time_zone(self._assigner.tz)
            if shown.dt.replace_time_zone(None).to_physical()[0] >= local:
                after = middle
            else:
                before = middle
        return after


@lru_cache(maxsize=64)
def _slices(assigner: Calendar) -> CalendarSlices:
    return CalendarSlices(assigner)
