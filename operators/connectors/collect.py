"""`stream.collect()`: a sink into memory and the handle through which its content is read after the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from streamflow.errors import RecordError, StreamflowError
from streamflow.operators.base import StreamType
from streamflow.operators.row_builder import row_dicts
from streamflow.operators.rows import frame_of
from streamflow.operators.sink import Committable, Committer, Delivery, Sink, SinkContext, SinkWriter
from streamflow.records.elements import AnyBatch
from streamflow.records.frame import FrameBatch
from streamflow.records.schema import Schema

__all__ = ["CollectSink", "Collected"]

_Piece = tuple[int, int]
"""(subtask, epoch)"""


class Collected:
    """What a stream put out, in the order in which it was committed; grows with each epoch while the job runs.

    Raises StreamflowError when it is read before the job has started.
    """

    def __init__(self) -> None:
        self._type: StreamType | None = None
        self._sealed: dict[_Piece, list[AnyBatch]] = {}
        self._visible: dict[_Piece, list[AnyBatch]] = {}

    def frame(self) -> pl.DataFrame:
        """One DataFrame with the stream's columns, without event time. A stream of values that are not rows becomes
        the column `value`."""
        kind = self._started()
        batches = [batch for piece in self._visible.values() for batch in piece]
        if isinstance(kind.schema, Schema):
            bad: list[RecordError] = []
            frames = [frame_of(batch, kind.schema, bad).user_frame() for batch in batches]
            if bad:
                raise bad[0]
            # A column whose type was not known when the job was built may have widened from batch to batch.
            return pl.concat(frames, how="vertical_relaxed") if frames else kind.schema.empty(timed=False)
        rows = self.rows()
        if not all(isinstance(row, dict) for row in rows):
            rows = [{"value": row} for row in rows]
        return pl.DataFrame(rows, infer_schema_length=None)

    def rows(self) -> list[Any]:
        """The same as Python values: a dict for each row of a stream with columns, the objects themselves otherwise."""
        self._started()
        rows: list[Any] = []
        for piece in self._visible.values():
            for batch in piece:
                rows.extend(row_dicts(batch.user_frame()) if isinstance(batch, FrameBatch) else batch.values)
        return rows

    def __len__(self) -> int:
        return sum(len(batch) for piece in self._visible.values() for batch in piece)

    def __repr__(self) -> str:
        return "Collected(not run yet)" if self._type is None else f"Collected({len(self)} rows)"

    def begin(self, input_type: StreamType) -> None:
        """A run starts: what an earlier run of the same job left is forgotten."""
        self._type = input_type
        self._sealed = {}
        self._visible = {}

    def seal(self, subtask: int, epoch: int, batches: list[AnyBatch]) -> None:
        """Keep what a subtask wrote in an epoch, not yet visible."""
        self._sealed[subtask, epoch] = batches

    def publish(self, subtask: int, epoch: int) -> None:
        """Make it visible; a second time changes nothing."""
        piece = (subtask, epoch)
        if piece in self._sealed:
            self._visible[piece] = self._sealed.pop(piece)

    def _started(self) -> StreamType:
        if self._type is None:
            raise StreamflowError("nothing has been collected yet", hint="run the job first: job.run()")
        return self._type


@dataclass(frozen=True, slots=True, eq=False)
class CollectSink(Sink):
    """Writes into a `Collected`, each epoch's rows when it commits."""

    into: Collected = field(repr=False)
    delivery: Delivery = field(default="exactly_once", init=False, repr=False)

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        if ctx.subtask == 0:
            self.into.begin(input_type)
        return _CollectWriter(self.into, ctx.subtask)

    def committer(self, ctx: SinkContext) -> Committer:
        return _CollectCommitter(self.into)

    def describe(self) -> str:
        return "collect"


class _CollectWriter:
    def __init__(self, into: Collected, subtask: int) -> None:
        self._into = into
        self._subtask = subtask
        self._batches: list[AnyBatch] = []

    async def write(self, batch: AnyBatch) -> None:
        if len(batch):
            self._batches.append(batch)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        batches, self._batches = self._batches, []
        if not batches:
            return ()
        self._into.seal(self._subtask, epoch, batches)
        return [{"subtask": self._subtask, "epoch": epoch}]

    async def close(self) -> None:
        self._batches = []


class _CollectCommitter:
    def __init__(self, into: Collected) -> None:
        self._into = into

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        for committable in sorted(committables, key=lambda piece: int(piece["subtask"])):
            self._into.publish(int(committable["subtask"]), int(committable["epoch"]))
