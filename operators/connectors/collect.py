"""`stream.collect()`: a sink into memory, and the handle that reads its content after the run.

Memory lasts as long as the process. A job restarted within it keeps the committed rows, each once; one that continues
in a new process collects the rows after its checkpoint.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

# The sink writes into what the handle reads.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.html_table import html_table
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, SinkError
from streamflow.operators.contract.sink import Committable, Committer, Delivery, Sink, SinkContext, SinkWriter
from streamflow.operators.stateless.rows import each_row, fitting_frame

__all__ = ["CollectSink", "Collected"]

_SHOWN = 20
"""Rows shown in a notebook."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """The rows that one subtask sealed in one epoch."""

    subtask: int
    epoch: int
    batches: list[AnyBatch]


class _Pieces:
    """Sealed and visible rows. `type` is None until the job starts."""

    def __init__(self) -> None:
        self.type: StreamType | None = None
        self.visible: dict[str, _Piece] = {}
        self._sealed: dict[str, _Piece] = {}
        self._count = 0

    def begin(self, input_type: StreamType, *, from_start: bool) -> None:
        """Begins a run; rows of an earlier one are dropped if it starts over."""
        self.type = input_type
        if from_start:
            self._sealed = {}
            self.visible = {}

    def seal(self, subtask: int, epoch: int, batches: list[AnyBatch], token: str) -> str:
        """Seals a subtask's rows of an epoch, not yet visible; returns the name to publish them by.

        `token` belongs to the run, so that a name from another process is never taken for one from this.
        """
        self._count += 1
        name = f"{token}-{self._count}"
        self._sealed[name] = _Piece(subtask, epoch, batches)
        return name

    def publish(self, names: Sequence[str]) -> list[str]:
        """Makes pieces visible, by subtask; a second time changes nothing. Missing pieces are ignored."""
        missing = [name for name in names if name not in self._sealed and name not in self.visible]
        there = [name for name in names if name in self._sealed]
        for name in sorted(there, key=lambda name: (self._sealed[name].subtask, self._sealed[name].epoch)):
            self.visible[name] = self._sealed.pop(name)
        return missing

    def go_on(self, epoch: int, published: Sequence[str], carried: Sequence[str]) -> None:
        """Drops rows published after `epoch`, and sealed rows that are not to be published any more."""
        self.visible = {
            name: piece for name, piece in self.visible.items() if piece.epoch <= epoch or name in published
        }
        self._sealed = {name: piece for name, piece in self._sealed.items() if name in carried}


class Collected:
    """The rows of a stream, in the order in which they were committed; grows with each epoch while the job runs.

    Raises JobDefinitionError when it is read before the job has started.
    """

    def __init__(self) -> None:
        self._pieces = _Pieces()

    def frame(self) -> pl.DataFrame:
        """The rows as one DataFrame with the stream's columns, without event time. Values that are not rows become
        the column `value`."""
        kind = self._started()
        batches = [batch for piece in self._pieces.visible.values() for batch in piece.batches]
        if isinstance(kind.schema, Schema):
            frames = [fitting_frame(batch, kind.schema).user_frame() for batch in batches]
            # A column whose type was not known when the job was built may have widened from batch to batch.
            return concatenated(frames) if frames else kind.schema.empty(timed=False)
        rows = self.rows()
        if not all(isinstance(row, dict) for row in rows):
            rows = [{"value": row} for row in rows]
        return pl.DataFrame(rows, infer_schema_length=None)

    def rows(self) -> list[Any]:
        """The rows as Python values: a dict for each row of a stream with columns, the objects themselves otherwise."""
        self._started()
        pieces = self._pieces.visible.values()
        return [row for piece in pieces for batch in piece.batches for row in each_row(batch)]

    def __len__(self) -> int:
        return sum(len(batch) for piece in self._pieces.visible.values() for batch in piece.batches)

    def __repr__(self) -> str:
        return "Collected(not run yet)" if self._pieces.type is None else f"Collected({len(self)} rows)"

    def _repr_html_(self) -> str:
        """An HTML view for notebooks: the first rows."""
        if self._pieces.type is None:
            return f"<pre>{self!r}</pre>"
        rows = [row if isinstance(row, dict) else {"value": row} for row in self.rows()[:_SHOWN]]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return html_table(repr(self), names, ([row.get(name) for name in names] for row in rows))

    def _started(self) -> StreamType:
        if self._pieces.type is None:
            raise JobDefinitionError("nothing has been collected yet", hint="run the job first: job.run()")
        return self._pieces.type


@dataclass(frozen=True, slots=True, eq=False)
class CollectSink(Sink):
    """Writes into a `Collected`, each epoch's rows when it commits: exactly once, within one process."""

    into: Collected = field(repr=False)
    delivery: Delivery = field(default="exactly_once", init=False, repr=False)

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        if ctx.subtask == 0:
            self.into._pieces.begin(input_type, from_start=ctx.restored is None)
        return _CollectWriter(self.into._pieces, ctx)

    def committer(self, ctx: SinkContext) -> Committer:
        return _CollectCommitter(self.into._pieces)

    def describe(self) -> str:
        return "collect"


class _CollectWriter:
    def __init__(self, into: _Pieces, ctx: SinkContext) -> None:
        self._into = into
        self._subtask = ctx.subtask
        self._token = ctx.random.token()
        self._batches: list[AnyBatch] = []

    async def write(self, batch: AnyBatch) -> None:
        if len(batch):
            self._batches.append(batch)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        batches, self._batches = self._batches, []
        if not batches:
            return ()
        return [{"piece": self._into.seal(self._subtask, epoch, batches, self._token)}]

    async def close(self) -> None:
        self._batches = []


class _CollectCommitter(Committer):
    def __init__(self, into: _Pieces) -> None:
        self._into = into

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        missing = self._into.publish(_names(committables))
        if missing:
            raise SinkError(
                f"{len(missing)} collected pieces were lost with the process that held them",
                hint='start over with restore="none", or write to files',
            )

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        # Rows sealed by another process are gone like all that it had collected before.
        published = _names(committables)
        self._into.publish(published)
        self._into.go_on(epoch, published, _names(carried))


def _names(committables: Sequence[Committable]) -> list[str]:
    return [str(piece["piece"]) for piece in committables]
