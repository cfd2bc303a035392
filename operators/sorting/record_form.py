"""Whole records in frames, and the same records as they were before they were keyed."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, OBJECTS, WATERMARK, Schema
from streamflow.core.serde import unpack
from streamflow.core.stream_type import StreamType
from streamflow.operators.process.process import WHOLE_RECORD
from streamflow.time.timestamps import MIN_TIME

__all__ = ["RecordForm"]


@dataclass(frozen=True, slots=True)
class RecordForm:
    """The form of the records that an operator keeps as rows of frames.

    `columns` are the records' own, without columns made for keys; None: records are Python objects, packed in the
    column WHOLE_RECORD. `timed`: they have event times.

    >>> RecordForm(("k", "v"), timed=False).content
    ('k', 'v')
    """

    columns: tuple[str, ...] | None
    timed: bool

    @property
    def content(self) -> tuple[str, ...]:
        """The columns that hold the records."""
        return (WHOLE_RECORD,) if self.columns is None else self.columns

    def type_of(self, kept: StreamType) -> StreamType:
        """The type of the records, of which a stream of type `kept` has the columns."""
        if self.columns is None:
            return StreamType(OBJECTS, self.timed)
        assert isinstance(kept.schema, Schema)
        return StreamType(Schema({name: kept.schema[name] for name in self.columns}), self.timed)

    def complete(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows with all columns: those that an earlier version of the job has kept may lack some, which are null."""
        missing = [name for name in self.content if name not in frame.columns]
        return frame.with_columns(pl.lit(None).alias(name) for name in missing) if missing else frame

    def batch(self, frame: pl.DataFrame, marks: pl.Series | None = None) -> AnyBatch:
        """The records of these rows; `marks` are the watermarks that they carry, in microseconds."""
        times = frame[EVENT_TIME] if self.timed else None
        if self.columns is None:
            return RowBatch(
                [unpack(data) for data in frame[WHOLE_RECORD]],
                None if times is None else times.to_physical().to_list(),
                None if marks is None else marks.to_list(),
            )
        own = frame[[*self.columns, EVENT_TIME]] if self.timed else frame[list(self.columns)]
        return FrameBatch(
            own if marks is None else own.hstack([marks.cast(EVENT_TIME_TYPE).alias(WATERMARK)])
        )


def marks_in_order(times: pl.Series) -> pl.Series:
    """The watermark before each record of a stream in order: right before its time, as if the source were in order."""
    return (times.to_physical() - 1).clip(lower_bound=MIN_TIME)
