"""`FrameBatch`: a batch as a Polars DataFrame, the layout wherever the schema is known.

Event time is the reserved column `__event_time` (`Datetime("us", "UTC")`), absent where a stream has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from streamflow.records.batch import Layout
from streamflow.records.schema import EVENT_TIME

__all__ = ["FrameBatch"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameBatch:
    """A Polars DataFrame with its event times in the column `__event_time`, if it has any.

    >>> from datetime import datetime, UTC
    >>> frame = pl.DataFrame({"k": ["a"], "__event_time": [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)]})
    >>> FrameBatch(frame).max_time
    1000000
    """

    frame: pl.DataFrame
    layout: Layout = field(default=Layout.FRAME, init=False, repr=False)

    def __len__(self) -> int:
        return self.frame.height

    @property
    def nbytes(self) -> int:
        return int(self.frame.estimated_size())

    @property
    def timed(self) -> bool:
        """Whether it carries event times."""
        return EVENT_TIME in self.frame.columns

    @property
    def max_time(self) -> int | None:
        if not self.timed or self.frame.is_empty():
            return None
        largest = self.frame[EVENT_TIME].cast(pl.Int64).max()
        return None if largest is None else int(largest)  # type: ignore[arg-type]

    def user_frame(self) -> pl.DataFrame:
        """The frame without reserved columns."""
        return self.frame.drop(EVENT_TIME) if self.timed else self.frame
