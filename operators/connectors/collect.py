"""`stream.collect()`: a sink into memory, and the handle that reads its content after the run.

Memory lasts as long as the process. A job restarted within it keeps the committed rows, each once; one that continues
in a new process collects the rows after its checkpoint. Rows that a writer in another process has sealed come as bytes
in the committable; those of a writer in this process stay where they are, and the committable has their name.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

# The sink writes into what the handle reads.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.html_table import html_table
from streamflow.core.kinds import any_column
from streamflow.core.schema import Schema
from streamflow.core.serde import frame_to_ipc, ipc_to_frame, pack, unpack, unsendable
from streamflow.core.stream_type import StreamType
from streamflow.core.values import UNFIT_ERRORS, framed
from streamflow.errors import JobDefinitionError, RecordError, SinkError
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

    def begin(self) -> None:
        """Begins a run that starts over; rows of an earlier one are dropped."""
        self._sealed = {}
        self.visible = {}

    def seal(self, name: str, piece: _Piece) -> None:
        """Seals a subtask's rows of an epoch, not yet visible; they are published by their name."""
        if name not in self.visible:
            self._sealed[name] = piece

    def publish(self, names: Sequence[str]) -> list[str]:
        """Makes pieces visible, by subtask; a second time changes nothing. Missing pieces are ignored, and named."""
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
        """The rows as one DataFrame with the stream's columns, without event time. Of Python objects the fields are
        the columns; where they are not all dicts, the objects are the column `value`. Raises RecordError for the
        first object that fits no column of those before."""
        kind = self._started()
        batches = [batch for piece in self._pieces.visible.values() for batch in piece.batches]
        if isinstance(kind.schema, Schema):
            frames = [fitting_frame(batch, kind.schema).user_frame() for batch in batches]
            # A column whose type was not known when the job was built may have widened from batch to batch.
            return concatenated(frames) if frames else kind.schema.empty(timed=False)
        return _frame_of_objects(self.rows())

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


def _frame_of_objects(objects: Sequence[Any]) -> pl.DataFrame:
    """Python objects as a frame of the types that all of them have."""
    dicts = all(isinstance(row, dict) for row in objects)
    rows = objects if dicts else [{"value": row} for row in objects]
    columns: list[pl.Series] = []
    for name in dict.fromkeys(name for row in rows for name in row):
        if not isinstance(name, str):
            raise _frameless(f"{name!r} names no column", next(row for row in rows if name in row))
        values = [row.get(name) for row in rows]
        column, misfits = any_column(name, values)
        if misfits:
            # Dicts with other fields, and empty ones, are what JSON holds: Polars finds the fields of them all.
            whole = _of_nested(name, values)
            if whole is None:
                first = min(misfits)
                raise _frameless(misfits[first], objects[first])
            column = whole
        columns.append(column)
    return framed(columns) if columns else pl.DataFrame(height=len(objects))


def _of_nested(name: str, values: Sequence[Any]) -> pl.Series | None:
    """Dicts, or lists, as a column with the fields of all of them; None where it would hold something else."""
    try:
        column = pl.DataFrame([{name: value} for value in values], infer_schema_length=None)[name]
        same = column.dtype.is_nested() and all(map(_is_held, values, column.to_list()))
    except (*UNFIT_ERRORS, pl.exceptions.PanicException):
        return None
    return column if same else None


def _is_held(value: Any, held: Any) -> bool:
    """Whether a value that comes from a column is the one that was put in, with null for fields that it lacks."""
    match value:
        case dict():
            fields = isinstance(held, dict) and value.keys() <= held.keys()
            return fields and all(_is_held(value.get(name), each) for name, each in held.items())
        case list() | tuple():
            return isinstance(held, list) and len(held) == len(value) and all(map(_is_held, value, held))
        case bool() | None:
            return held is value
        case int() | float():
            number = isinstance(held, int | float) and not isinstance(held, bool)
            return number and (held == value or (held != held and value != value))
        case _:
            return type(held) is type(value) and bool(held == value)


def _frameless(why: str, row: Any) -> RecordError:
    return RecordError(f"the objects are no DataFrame: {why}", record=row, hint="rows() has them as they are")


@dataclass(frozen=True, slots=True, eq=False)
class CollectSink(Sink):
    """Writes into a `Collected`, each epoch's rows when it commits: exactly once, in the committer's process."""

    into: Collected = field(repr=False)
    delivery: Delivery = field(default="exactly_once", init=False, repr=False)

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        self.into._pieces.type = input_type
        return _CollectWriter(self.into._pieces, ctx)

    def committer(self, ctx: SinkContext) -> Committer:
        if ctx.type is not None:
            self.into._pieces.type = ctx.type
        return _CollectCommitter(self.into._pieces, ctx)

    def describe(self) -> str:
        return "collect"


class _CollectWriter:
    def __init__(self, into: _Pieces, ctx: SinkContext) -> None:
        self._into = into
        self._ctx = ctx
        # Of this run alone, so that a name from another process is never taken for one from this.
        self._token = ctx.random.token()
        self._count = 0
        self._batches: list[AnyBatch] = []

    async def write(self, batch: AnyBatch) -> None:
        if len(batch):
            self._batches.append(batch)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        batches, self._batches = self._batches, []
        if not batches:
            return ()
        subtask = self._ctx.subtask
        self._count += 1
        name = f"{self._token}-{subtask}-{self._count}"
        if not self._ctx.apart:
            self._into.seal(name, _Piece(subtask, epoch, batches))
            return [{"piece": name}]
        packed = await self._ctx.run_blocking(_packed, batches)
        return [{"piece": name, "subtask": subtask, "epoch": epoch, "batches": packed}]

    async def close(self) -> None:
        self._batches = []


class _CollectCommitter(Committer):
    def __init__(self, into: _Pieces, ctx: SinkContext) -> None:
        self._into = into
        self._ctx = ctx

    async def begin(self) -> None:
        self._into.begin()

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        await self._take(committables)
        missing = self._into.publish(_names(committables))
        if missing:
            raise SinkError(
                f"{len(missing)} collected pieces were lost with the process that held them",
                hint='start over with restore="none", or write to files',
            )

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        # Rows that another process sealed and kept are gone like all that it had collected before.
        await self._take(committables)
        published = _names(committables)
        self._into.publish(published)
        self._into.go_on(epoch, published, _names(carried))

    async def _take(self, committables: Sequence[Committable]) -> None:
        """Seals the rows that come as bytes."""
        for each in committables:
            if "batches" in each:
                batches = await self._ctx.run_blocking(_unpacked, each["batches"])
                self._into.seal(str(each["piece"]), _Piece(each["subtask"], each["epoch"], batches))


def _names(committables: Sequence[Committable]) -> list[str]:
    return [str(piece["piece"]) for piece in committables]


def _packed(batches: Sequence[AnyBatch]) -> list[dict[str, bytes]]:
    """Batches as bytes: frames as Arrow, objects as msgpack. Raises RecordError for an object that has no such form."""
    return [
        {"frame": frame_to_ipc(batch.frame)} if isinstance(batch, FrameBatch) else {"rows": _rows(batch)}
        for batch in batches
    ]


def _rows(batch: RowBatch) -> bytes:
    values = list(batch.values)
    try:
        return pack(values, bounded=False)
    except RecordError as error:
        raise unsendable(values, error) from error


def _unpacked(packed: Sequence[Mapping[str, bytes]]) -> list[AnyBatch]:
    return [
        FrameBatch(ipc_to_frame(each["frame"]))
        if "frame" in each
        else RowBatch(unpack(each["rows"], bounded=False))
        for each in packed
    ]
