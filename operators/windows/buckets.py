"""Rows in the frame store, by buckets of event time that are as wide as the data needs.

Dense data gets a bucket for each slide (or gap); where a batch touches many, buckets double, so that sparse data
over a long time is neither stored nor fired one tiny frame at a time. Where rows are looked up and forgotten, buckets
are halved until none outgrows a limit, so that each is sorted and forgotten at a small cost. Buckets of different
widths may overlap: each knows the span of its rows, and a reader takes all that intersect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

from streamflow.core.partition import partitioned
from streamflow.operators.aggregates.partials import SLICE
from streamflow.state.operator_snapshot import whole

if TYPE_CHECKING:
    from streamflow.state.frames.store import FrameStore

__all__ = ["Buckets", "Span"]

_MOST: Final = 32
"""The number of buckets of a batch from which on they become twice as wide."""
_PER_SPAN: Final = 64
"""The number of buckets into which one as wide as the first is divided at most: each costs something to look up in."""


class Span(NamedTuple):
    """The smallest time and the largest slice in a bucket, in microseconds."""

    low: int
    high: int


class Buckets:
    """The buckets of one operator; `spans` has the span of each. `time` is the column that places a row, `low` that of
    its smallest time; `most_rows` the limit above which buckets are halved."""

    def __init__(
        self,
        store: FrameStore,
        width: int,
        offset: int = 0,
        *,
        time: str = SLICE,
        low: str | None = None,
        most_rows: int | None = None,
    ) -> None:
        self._store = store
        self._width = width
        self._narrowest = max(1, width // _PER_SPAN)
        self._most_rows = most_rows
        self._offset = offset
        self._time = time
        self._low = low or time
        self.spans: dict[int, Span] = {}

    def append(self, partials: pl.DataFrame) -> None:
        """Adds partials (at least one), each to the bucket of its slice."""
        slices = partials[self._time]
        low, high = _bounds(slices)
        starts = self._start(slices)
        if (high - low) // self._width > _MOST:
            while starts.n_unique() > _MOST:
                self._width *= 2
                starts = self._start(slices)
        for bucket, part in partitioned(partials, starts):
            self._store.append(bucket, part)
            low, high = _bounds(part[self._time])
            self._extend(bucket, low if self._low == self._time else _bounds(part[self._low])[0], high)
            if self._most_rows is not None:
                self._narrow(bucket, self._most_rows)

    def read(self, bucket: int) -> pl.DataFrame:
        """The rows of a bucket, one per key and slice."""
        return self._store.read(bucket)

    def look_up(self, bucket: int, keys: pl.DataFrame) -> pl.DataFrame | None:
        """The merged rows of these keys in a bucket; None if there are none. The cost follows the number of keys."""
        return self._store.look_up(bucket, keys)

    def candidates(self, low: int, high: int, keys: pl.DataFrame) -> list[pl.DataFrame]:
        """Frames with all rows of these keys in [low, high], and others beside them (`FrameStore.candidates`)."""
        return self._store.candidates(
            [bucket for bucket, span in self.spans.items() if span.low <= high and span.high >= low], keys
        )

    def drop_until(self, time: int) -> None:
        """Removes the buckets in which no row is later than `time`."""
        for bucket in [bucket for bucket, span in self.spans.items() if span.high <= time]:
            self.drop(bucket)

    def rows(self, bucket: int) -> int:
        """The number of rows in a bucket, before they are merged."""
        return self._store.rows_in(bucket)

    def share(self, bucket: int) -> float:
        """The size of a bucket, as a multiple of the part that can be worked on at a time."""
        return self._store.share(bucket)

    def drop(self, bucket: int) -> None:
        """Removes a bucket."""
        self._store.drop(bucket)
        del self.spans[bucket]

    def snapshot(self) -> Mapping[str, Any]:
        """The state outside of the store itself."""
        return {"width": self._width, "spans": [[start, *span] for start, span in self.spans.items()]}

    def restore(self, saved: Sequence[Mapping[str, Any]]) -> None:
        """Restores `snapshot`'s state, of one or several subtasks. The store has been restored before."""
        self._width = max([self._width, *(whole(each["width"], "a bucket's width") for each in saved)])
        for each in saved:
            for start, low, high in each["spans"]:
                if start in self._store:
                    self._extend(start, whole(low, "a time"), whole(high, "a time"))

    def _start(self, slices: Any) -> Any:
        return slices - (slices - self._offset) % self._width

    def _narrow(self, bucket: int, most_rows: int) -> None:
        """Halves the width if buckets as dense as this one would outgrow a number of rows."""
        rows, span = self._store.rows_in(bucket), self.spans[bucket]
        if 2 * rows > most_rows:
            while self._width > self._narrowest and rows * self._width > most_rows * (
                span.high - span.low + 1
            ):
                self._width = max(self._width // 2, self._narrowest)

    def _extend(self, bucket: int, low: int, high: int) -> None:
        known = self.spans.get(bucket)
        if known is not None:
            low, high = min(low, known.low), max(high, known.high)
        self.spans[bucket] = Span(low, high)


def _bounds(times: pl.Series) -> tuple[int, int]:
    return int(times.min()), int(times.max())  # type: ignore[arg-type]
