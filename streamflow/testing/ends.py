"""The ends of a job's graph in a test: sinks that gather instead of writing, and the names of ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.core.stream_type import StreamType
from streamflow.graph.logical import LogicalGraph, Node, SinkNode
from streamflow.operators.connectors.collect import CollectSink
from streamflow.operators.contract.sink import Committable, Sink, SinkContext, SinkWriter
from streamflow.testing.rows import values_of

__all__ = ["Gathered", "gathering", "stems"]

_FIELDS: Final = (
    "path",
    "paths",
    "pattern",
    "patterns",
    "location",
    "topic",
    "topics",
    "directory",
    "target",
)


@dataclass(slots=True)
class _Place:
    """The subtask that wrote a batch, and the epoch in which it was sealed; None if it is not sealed yet."""

    subtask: int
    epoch: int | None = None


@dataclass(slots=True)
class Gathered:
    """The batches of one sink, in the order in which they were written; present at once, before any commit."""

    type: StreamType
    stands_for: object = None
    """The `Collected` that the job's own sink would have filled, if it was a `collect()`."""
    batches: list[AnyBatch] = field(default_factory=list[AnyBatch])
    _places: list[_Place] = field(default_factory=list["_Place"])

    def add(self, subtask: int, batch: AnyBatch) -> None:
        """Adds a batch of a subtask."""
        self.batches.append(batch)
        self._places.append(_Place(subtask))

    def seal(self, subtask: int, epoch: int) -> None:
        """Seals the subtask's unsealed batches in that epoch."""
        for place in self._places:
            if place.subtask == subtask and place.epoch is None:
                place.epoch = epoch

    def take_back(self, epoch: int) -> None:
        """Drops batches after an epoch: the run continues from its checkpoint."""
        kept = [
            (batch, place)
            for batch, place in zip(self.batches, self._places, strict=True)
            if place.epoch is not None and place.epoch <= epoch
        ]
        self.batches[:] = [batch for batch, _ in kept]
        self._places[:] = [place for _, place in kept]

    def rows(self) -> list[Any]:
        """The rows: dicts for columns, the values themselves for objects."""
        return [value for batch in self.batches for value in values_of(batch)]

    def event_times(self) -> list[int]:
        """The event time of each row in microseconds; empty if the stream has none."""
        times: list[int] = []
        for batch in self.batches:
            if isinstance(batch, RowBatch):
                times.extend(batch.times or ())
            elif batch.timed:
                times.extend(batch.frame[EVENT_TIME].to_physical().to_list())
        return times

    def frame(self) -> pl.DataFrame:
        """A DataFrame of the stream's columns; a stream of values that are no dicts becomes the column `value`."""
        schema = self.type.schema
        fields = dict(schema) if isinstance(schema, Schema) else None
        rows = self.rows()
        if not rows:
            return pl.DataFrame(schema=fields)
        if not isinstance(rows[0], dict):
            rows = [{"value": row} for row in rows]
        return pl.DataFrame(rows, schema=fields, infer_schema_length=None)


@dataclass(frozen=True, eq=False)
class _GatheringSink(Sink):
    gathered: Gathered
    text: str

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _GatheringWriter(self.gathered, ctx.subtask)

    def describe(self) -> str:
        return self.text


@dataclass(slots=True)
class _GatheringWriter:
    gathered: Gathered
    subtask: int

    async def write(self, batch: AnyBatch) -> None:
        self.gathered.add(self.subtask, batch)

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        self.gathered.seal(self.subtask, epoch)
        return ()

    async def close(self) -> None:
        """Closes nothing: gathered batches stay."""


def gathering(graph: LogicalGraph) -> tuple[LogicalGraph, dict[str, Gathered]]:
    """The graph with every sink replaced by a gathering one, and the gathered batches by operator id."""
    nodes: list[Node] = []
    gathered: dict[str, Gathered] = {}
    for node in graph.nodes:
        if isinstance(node, SinkNode):
            sink = node.sink
            gathered[node.id] = Gathered(node.type, sink.into if isinstance(sink, CollectSink) else None)
            node = replace(node, sink=_GatheringSink(gathered[node.id], sink.describe()))
        nodes.append(node)
    return LogicalGraph(graph.job, tuple(nodes)), gathered


def stems(end: object) -> set[str]:
    """The names of a source or sink for a test: those of files, folders or topics among its fields.

    >>> from types import SimpleNamespace
    >>> stems(SimpleNamespace(path="data/flights/*.ndjson")), stems(SimpleNamespace(topic="delays"))
    ({'flights'}, {'delays'})
    """
    found: set[str] = set()
    for name in _FIELDS:
        value: Any = getattr(end, name, None)
        listed = cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else [value]
        for each in listed:
            if isinstance(each, (str, Path)):
                parts = [part.partition(".")[0] for part in str(each).replace("\\", "/").split("/")]
                named = [part for part in parts if part and not set(part) & set("*?[:")]
                found.update(named[-1:])
    return found
