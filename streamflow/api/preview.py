"""A preview of a stream: its first records, found by running the part of the job that gives them, in an event loop of
its own.

Nothing else of the job runs: no sink, no checkpoint, no setting from the environment. Reading stops at the number of
records asked for; functions on the way run with all their side effects.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from streamflow.api.physical import physical_plan
from streamflow.api.stream import Stream, builder_of, read_of
from streamflow.arguments import whole_number
from streamflow.config import Settings
from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.graph.logical import LogicalGraph, Node, SinkNode, inputs_of
from streamflow.operators.connectors.console import table
from streamflow.operators.contract.sink import Committable, Sink, SinkContext, SinkWriter
from streamflow.operators.stateless.rows import each_row, fitting_frame
from streamflow.runners.local import LocalJob
from streamflow.runtime.profile import profile_for

__all__ = ["as_lines", "first_records"]

_MOST_AT_ONCE = 1_024


def first_records(stream: Stream, n: int, timeout: int) -> pl.DataFrame | list[Any]:
    """The first `n` records of a stream, as `Stream.head` gives them; `timeout` in microseconds."""
    whole_number(n, "the number of records to look at")
    graph, read = builder_of(stream).graph, read_of(stream)
    look = _Look(n)
    sink = SinkNode("look", look, read, graph.type_of(read))
    job = LogicalGraph(graph.job, (*_upper(graph, read.node), sink))
    found: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(_watched(job, look, timeout / 1e6))
        except BaseException as error:  # noqa: BLE001 — raised again where the look was asked for
            found.append(error)

    # In a thread, because in a notebook this thread has a running event loop.
    thread = threading.Thread(target=run, name="streamflow-look")  # noqa: TID251 — lives as long as this call
    thread.start()
    thread.join()
    if found:
        raise found[0]
    return look.records(sink.type)


def as_lines(records: pl.DataFrame | list[Any]) -> str:
    """Records as lines of text, as the console shows them."""
    return table(records)


async def _watched(graph: LogicalGraph, look: _Look, seconds: float) -> None:
    settings = Settings.resolve(
        {
            "mode": "streaming",
            "batch_rows": min(look.wanted, _MOST_AT_ONCE),
            "read_ahead": 1,
            "restart": "none",
            "state_backend": "memory",
        },
        environ={},
    )
    profile = profile_for(settings.mode, settings, bounded=graph.bounded)
    look.full = asyncio.Event()
    handle = LocalJob(
        graph,
        physical_plan,
        profile,
        settings,
    )
    ended, full = asyncio.ensure_future(handle.wait()), asyncio.ensure_future(look.full.wait())
    await asyncio.wait({ended, full}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    full.cancel()
    if ended.done():
        ended.result()
        return
    await handle.cancel()
    await asyncio.gather(ended, return_exceptions=True)


def _upper(graph: LogicalGraph, id: str) -> list[Node]:
    """The node with this id and all nodes that it reads, in the graph's order."""
    wanted = {id}
    for node in reversed(graph.nodes):
        if node.id in wanted:
            wanted.update(read.node for read in inputs_of(node))
    return [node for node in graph.nodes if node.id in wanted]


@dataclass(slots=True, eq=False)
class _Look(Sink):
    wanted: int
    batches: list[AnyBatch] = field(default_factory=list[AnyBatch])
    full: asyncio.Event = field(default_factory=asyncio.Event)

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _LookWriter(self)

    def describe(self) -> str:
        return "look"

    def records(self, type: StreamType) -> pl.DataFrame | list[Any]:
        """The records seen, at most as many as wanted."""
        if not isinstance(type.schema, Schema):
            return [row for batch in self.batches for row in each_row(batch)][: self.wanted]
        frames = [fitting_frame(batch, type.schema).user_frame() for batch in self.batches]
        return concatenated(frames).head(self.wanted) if frames else type.schema.empty(timed=False)


class _LookWriter:
    def __init__(self, look: _Look) -> None:
        self._look = look

    async def write(self, batch: AnyBatch) -> None:
        self._look.batches.append(batch)
        if sum(map(len, self._look.batches)) >= self._look.wanted:
            self._look.full.set()

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        return ()

    async def close(self) -> None:
        """Closes nothing: the records stay for the caller."""
