"""Pairs of two sides' rows: equal keys, and times within an interval of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from streamflow.core.common_types import alike, concatenated
from streamflow.core.key_join import key_join
from streamflow.core.membership import has_key_in, without_null_keys
from streamflow.operators.joins.sides import ALONE, TIMES, How

__all__ = ["Interval", "joined", "matched"]

_BUCKET: Final = "\x1abucket"
_ROW: Final = "\x1arow"


@dataclass(frozen=True, slots=True)
class Interval:
    """The interval of right times around a left time, in microseconds, both ends included.

    >>> interval = Interval(-5, 1)
    >>> interval.around(0), interval.around(1), interval.span
    ((-5, 1), (-1, 5), 6)
    """

    lower: int
    upper: int

    @property
    def span(self) -> int:
        return self.upper - self.lower

    def around(self, port: int) -> tuple[int, int]:
        """The first and the last time of a partner, as distances from the time of a row of input `port`."""
        return (-self.upper, -self.lower) if port else (self.lower, self.upper)

    def pairs(self, left: pl.DataFrame, right: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
        """All pairs: the keys, the left's columns, the right's. No key may be null.

        Where the rows are spread over much more time than the interval, times are compared by buckets first, so that
        the work follows the number of pairs.
        """
        times = left[TIMES[0]]
        if left.height and int(times.max()) - int(times.min()) > 2 * self.span:  # type: ignore[arg-type]
            width = self.span + 1
            first = (times + self.lower) // width
            copies = [left.hstack([(first + step).alias(_BUCKET)]) for step in (0, 1)]
            right = right.hstack([(right[TIMES[1]] // width).alias(_BUCKET)])
            both = key_join(concatenated(copies), right, [*keys, _BUCKET]).drop(_BUCKET)
        else:
            both = key_join(left, right, keys)
        distance = both[TIMES[1]] - both[TIMES[0]]
        within = (distance >= self.lower) & (distance <= self.upper)
        return both if within.all() else both.filter(within)


def matched(
    rows: pl.DataFrame, port: int, others: Sequence[pl.DataFrame], keys: Sequence[str], interval: Interval
) -> pl.Series:
    """Whether each row of input `port` has a partner among the rows of the other; rows with null keys have none."""
    none = pl.Series([False]).new_from_index(0, rows.height)
    if not others:
        return none
    keyed = rows[[*keys, TIMES[port]]].with_row_index(_ROW).drop_nulls()
    other = concatenated(others)[[*keys, TIMES[1 - port]]]
    found = interval.pairs(*((other, keyed) if port else (keyed, other)), keys)[_ROW].unique()
    return none.scatter(found, True) if len(found) else none


def joined(
    left: pl.DataFrame | None, right: pl.DataFrame | None, on: Sequence[str], how: How
) -> Iterator[tuple[pl.DataFrame, int | None]]:
    """The join of two frames (None: empty) in the left's order: pairs (None), with which the left's rows that have no
    partner may stand, and the rows of each side that come out alone (its port)."""
    if left is not None and right is not None:
        left, right = alike(left, right, on)
        partners = without_null_keys(right, on)
        if how in ("left", "outer"):
            yield key_join(left, partners, on, "left"), None
        elif how in ("inner", "right"):
            yield key_join(without_null_keys(left, on), partners, on), None
    if left is not None and (how in ("semi", "anti") or (right is None and ALONE[how][0])):
        found = _has_partner(left, right, on)
        yield left.filter(found if how == "semi" else ~found), 0
    if right is not None and ALONE[how][1]:
        yield right.filter(~_has_partner(right, left, on)), 1


def _has_partner(rows: pl.DataFrame, others: pl.DataFrame | None, on: Sequence[str]) -> pl.Series:
    """Whether each row's key is among the others' (None: none); a null key matches nothing."""
    if others is None:
        return pl.Series([False]).new_from_index(0, rows.height)
    return has_key_in(rows, without_null_keys(others, on), on)
