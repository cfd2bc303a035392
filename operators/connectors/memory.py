"""`MemorySource`: records that are already in memory, as a bounded source. For tests, examples and small tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import polars as pl

from streamflow.arguments import whole_number
from streamflow.core.batch import RowBatch
from streamflow.core.copies import copied_batch
from streamflow.core.frame import FrameBatch
from streamflow.core.python_times import shown_row
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, OBJECTS, Objects, Schema
from streamflow.core.stream_type import StreamType
from streamflow.core.values import strict_frame
from streamflow.errors import JobDefinitionError
from streamflow.operators.connectors.fixed_splits import FixedSplits
from streamflow.operators.connectors.row_frames import frame_of_rows, infer_frame
from streamflow.operators.contract.source import (
    Decoded,
    Enumerator,
    Fetch,
    Position,
    Source,
    SourceContext,
    Split,
    SplitReader,
    counted_in,
)
from streamflow.operators.stateless.row_builder import row_dicts

__all__ = ["MemorySource"]

_ROW_BYTES = 200


@dataclass(frozen=True, slots=True, eq=False)
class MemorySource(Source):
    """Reads a DataFrame or a list of rows, in order, in batches of `batch_rows` (default: the mode's batch size).

    Rows that are dicts become columns, their types inferred from all rows or given by `schema`; other values, and
    dicts under `schema=OBJECTS`, stay Python objects. A DataFrame with a column `__event_time` brings its own event
    time. Raises JobDefinitionError if the rows do not fit one schema.

    >>> MemorySource([{"word": "hello"}, {"word": "world"}]).output_type().schema
    Schema(word: String)
    >>> MemorySource(["hello", "world"]).output_type().schema
    OBJECTS
    """

    data: pl.DataFrame | Iterable[Any] = field(repr=False)
    batch_rows: int | None = None
    schema: Mapping[str, Any] | Objects | None = field(default=None, repr=False)
    _held: pl.DataFrame | Sequence[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch_rows is not None:
            whole_number(self.batch_rows, "batch_rows")
        object.__setattr__(self, "_held", _hold(self.data, self.schema))

    @property
    def bounded(self) -> bool:
        return True

    @property
    def input(self) -> Mapping[str, Any]:
        """The digest of its first row: rows may be added behind it."""
        held = self._held
        if not isinstance(held, pl.DataFrame) or held.is_empty():
            return {}
        first = shown_row(held, 0)  # also with times that Python cannot hold
        return {"first row": blake2b(repr(first).encode(), digest_size=8).hexdigest()}

    def output_type(self) -> StreamType:
        if not isinstance(self._held, pl.DataFrame):
            return StreamType(OBJECTS, timed=False)
        columns = dict(self._held.schema)
        of_time = columns.pop(EVENT_TIME, None)
        if of_time not in (None, EVENT_TIME_TYPE):
            raise JobDefinitionError(
                f"the column {EVENT_TIME!r} is event time, and this one is {of_time}",
                hint=f"make it {EVENT_TIME_TYPE}, or choose another name",
            )
        return StreamType(Schema(columns), timed=of_time is not None)

    def enumerator(self, ctx: SourceContext) -> Enumerator:
        return FixedSplits(Split("memory"))

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> SplitReader:
        row = 0 if position is None else counted_in(position, "row")
        held = self._held
        if isinstance(held, pl.DataFrame) and ctx.columns is not None:
            held = held.select([name for name in held.columns if name in ctx.columns or name == EVENT_TIME])
        return _MemoryReader(held, row, self.batch_rows or ctx.batch_rows)

    def describe(self) -> str:
        return f"MemorySource({len(self._held)} rows)"


class _MemoryReader:
    def __init__(self, held: pl.DataFrame | Sequence[Any], row: int, batch_rows: int) -> None:
        self._held = held
        self._row = row
        self._batch_rows = batch_rows

    async def fetch(self) -> Fetch | None:
        start, end = self._row, min(self._row + self._batch_rows, len(self._held))
        if start >= end:
            return None
        self._row = end
        if isinstance(self._held, pl.DataFrame):
            frame = FrameBatch(self._held.slice(start, end - start))
            return Fetch(lambda: Decoded(frame), {"row": end}, frame.nbytes)
        rows = RowBatch(self._held[start:end])
        # A copy, so that functions' changes are not in the rows when they are read again.
        return Fetch(lambda: Decoded(copied_batch(rows)), {"row": end}, len(rows) * _ROW_BYTES)

    async def close(self) -> None:
        """Closes nothing."""


def _hold(
    data: pl.DataFrame | Iterable[Any], schema: Mapping[str, Any] | Objects | None
) -> pl.DataFrame | list[Any]:
    if isinstance(data, pl.DataFrame):
        if isinstance(schema, Objects):
            return list(row_dicts(data))
        return data if schema is None else _fitted(*strict_frame(data, Schema(schema)))
    given: Any = data
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise JobDefinitionError(
            f"MemorySource got {type(data).__name__}", hint="give a DataFrame or a list of rows"
        )
    rows = list(data)
    if isinstance(schema, Objects):
        return rows
    if schema is None:
        return infer_frame(rows) if rows and all(isinstance(row, dict) for row in rows) else rows
    return _fitted(*frame_of_rows(rows, Schema(schema)))


def _fitted(frame: pl.DataFrame, problems: Mapping[int, str]) -> pl.DataFrame:
    for index, what in sorted(problems.items()):
        raise JobDefinitionError(f"row {index}: {what}", hint="change the row or the schema")
    return frame
