"""Records of a batch as rows of (key, window), for windows that are looked at one by one: those with triggers, and
those of a user's own.

A batch is aggregated first by *fragments*: stretches of time whose records are in the same windows whatever else comes
(a slice, a piece of a session). Each fragment then is a row for every window that holds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.schema import shown_name
from streamflow.operators.aggregates.partials import END, FIRST, LAST, SLICE, START, PartialPlan
from streamflow.operators.contract.waiting import session_that_ends, the_window
from streamflow.operators.windows.merging import SESSION, with_sessions
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, format_time
from streamflow.windows.assigners import Assigner, GlobalWindow, Session
from streamflow.windows.own_assigner import WindowAssigner, merged
from streamflow.windows.slicing import Slices, slices_of

__all__ = ["BY_END", "BY_START", "FRAGMENT", "WindowRows", "window_rows"]

FRAGMENT: Final = "__fragment"
"""The number of the fragment that a row comes from."""
BY_START: Final = "__by_start"
BY_END: Final = "__by_end"


class WindowRows(ABC):
    """The windows of one assigner.

    `merging`: windows that intersect become one. `gaps`: a fragment may be in no window. `width`: the
    usual distance from the end of a window to the next one's; 0: not known. `within`: the columns, beside
    the key, that tell windows apart; none where windows merge. `spanning`: a merged window has the bounds of all.
    """

    merging = False
    spanning = True
    gaps = False
    width = 0
    within: tuple[str, ...] = (END,)

    @abstractmethod
    def rows(self, fragments: pl.DataFrame) -> pl.DataFrame:
        """A row with START and END for each window of each fragment, which are numbered in FRAGMENT."""

    def numbered(self, rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
        """Rows of windows (at least one) with the number of the merged window that each is in, in SESSION, and its
        bounds in BY_START and BY_END."""
        ordered = with_sessions(rows, keys, 0, first=START, last=END)
        return ordered.with_columns(
            pl.col(START).min().over(SESSION).alias(BY_START), pl.col(END).max().over(SESSION).alias(BY_END)
        )

    def merge(self, plan: PartialPlan, keys: Sequence[str]) -> Callable[[pl.DataFrame], pl.DataFrame]:
        """The function that makes one row of the partials of each window."""
        if not self.merging:
            return lambda frame: plan.merge(frame, [*keys, START, END])[frame.columns]
        own = [pl.col(key).first() for key in keys]
        bounds = [pl.col(BY_START).first().alias(START), pl.col(BY_END).first().alias(END)]

        def one_each(frame: pl.DataFrame) -> pl.DataFrame:
            numbered = self.numbered(frame, list(keys)).drop(START, END)
            return plan.merge(numbered, [SESSION], [*own, *bounds])[frame.columns]

        return one_each

    def named(self, end: int) -> str:
        """The window that ends at this time, in words."""
        return f"a window that ends at {format_time(end)}" + (", if nothing joins it" if self.merging else "")

    def held(self, watermark: int) -> int | None:
        """The time that all open windows, and those to come, begin after; None if that is not known."""
        return None


class _SlicedRows(WindowRows):
    def __init__(self, slices: Slices) -> None:
        self._slices = slices
        self.gaps = slices.gaps
        self.width = slices.width

    def rows(self, fragments: pl.DataFrame) -> pl.DataFrame:
        slices = self._slices
        start = fragments[SLICE]
        copies: list[pl.DataFrame] = []
        numbered = fragments.drop(SLICE).with_row_index(FRAGMENT)
        for number in range(slices.per_slice):
            end = slices.nth_end(start, number)
            begin = slices.start_of(end)
            holds = (begin <= start) & (end > start)
            copy = numbered.hstack([begin.alias(START), end.alias(END)])
            copies.append(copy if holds.all() else copy.filter(holds))
        return concatenated(copies)

    def named(self, end: int) -> str:
        return the_window(self._slices.start_of(end), end)

    def held(self, watermark: int) -> int | None:
        return self._slices.start_of(self._slices.end_after(watermark + 1)) - 1


class _SessionRows(WindowRows):
    merging = True
    within = ()

    def __init__(self, gap: int) -> None:
        self._gap = gap

    def rows(self, fragments: pl.DataFrame) -> pl.DataFrame:
        bounds = [fragments[FIRST].alias(START), (fragments[LAST] + self._gap).alias(END)]
        return fragments.drop(SLICE).with_row_index(FRAGMENT).hstack(bounds)

    def named(self, end: int) -> str:
        return session_that_ends(end)

    def held(self, watermark: int) -> int | None:
        return watermark - self._gap + 1


class _GlobalRows(WindowRows):
    within = ()

    def rows(self, fragments: pl.DataFrame) -> pl.DataFrame:
        bounds = [
            pl.Series(name, [time]).new_from_index(0, fragments.height)
            for name, time in ((START, MIN_TIME), (END, MAX_TIME))
        ]
        return fragments.with_row_index(FRAGMENT).hstack(bounds)

    def named(self, end: int) -> str:
        return "the global window"


class _OwnRows(WindowRows):
    def __init__(self, assigner: WindowAssigner) -> None:
        self._assigner = assigner
        self.spanning = type(assigner).merge is WindowAssigner.merge
        self.merging = assigner.merging
        self.within = () if assigner.merging else (START, END)

    def rows(self, fragments: pl.DataFrame) -> pl.DataFrame:
        return fragments.with_row_index(FRAGMENT)

    def numbered(self, rows: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
        if self.spanning:
            return super().numbered(rows, keys)
        ordered = rows.sort(*keys, START, END)
        windows: list[pl.DataFrame] = []
        for of_key in ordered.partition_by(keys, maintain_order=True):
            key = {shown_name(name): value for name, value in of_key[keys].row(0, named=True).items()}
            starts, ends = merged(self._assigner, of_key[START], of_key[END], key)
            windows.append(of_key.hstack([starts.alias(BY_START), ends.alias(BY_END)]))
        whole = concatenated(windows).sort(*keys, BY_START, BY_END)
        return whole.with_columns(pl.struct(*keys, BY_START, BY_END).rle_id().alias(SESSION))


def window_rows(assigner: Assigner) -> WindowRows:
    """The windows of an assigner as rows."""
    match assigner:
        case WindowAssigner():
            return _OwnRows(assigner)
        case Session(gap=gap):
            return _SessionRows(gap)
        case GlobalWindow():
            return _GlobalRows()
        case _:
            return _SlicedRows(slices_of(assigner))  # type: ignore[arg-type]
