"""The input of a simulation: the first records of each source of a job, read once, with their times."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamflow.core.batch import RowBatch
from streamflow.core.common_types import concatenated
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError
from streamflow.graph.logical import LogicalGraph, SourceNode
from streamflow.operators.contract.operator import OperatorContext
from streamflow.operators.contract.source import Source, SourceContext
from streamflow.runtime.ports import Inline
from streamflow.state.backends.memory import MemoryBackend
from streamflow.testing.clock import TestClock
from streamflow.testing.simulation.chance import Chance
from streamflow.time.clock import SystemClock

__all__ = ["Sample", "samples_of"]

_PATIENCE: Final = 10.0
"""Seconds of real time to wait for the next records of a source that has no end."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Records of one source in the order in which they came.

    `times` are the event times in microseconds, None for a stream without; `bound` is the job's bound on disorder.
    `all`: the source had no more records.
    """

    type: StreamType
    batch: AnyBatch
    times: tuple[int, ...] | None
    bound: int
    all: bool

    def __len__(self) -> int:
        return len(self.batch)

    def take(self, rows: Sequence[int]) -> AnyBatch:
        """The sample of these records, in this order."""
        if isinstance(self.batch, FrameBatch):
            return FrameBatch(self.batch.frame[list(rows)])
        times = self.batch.times
        values = self.batch.values
        return RowBatch(
            [values[row] for row in rows], None if times is None else [times[row] for row in rows]
        )

    def arrival(self, rows: Sequence[int], chance: Chance, late: int = 0) -> list[int]:
        """An order in which these records may come: each as late as the bound allows and `late` more, none later."""
        times, bound = self.times, self.bound + late
        if times is None or bound == 0:
            return sorted(rows, key=lambda row: times[row]) if times is not None else list(rows)
        return sorted(rows, key=lambda row: times[row] + chance.between(0, bound))


def samples_of(graph: LogicalGraph, rows: int) -> dict[str, Sample]:
    """The first `rows` records of each source of a job, by the source's id; reads them for real.

    Raises the errors of reading, and JobDefinitionError for a source without records.
    """

    async def read() -> dict[str, Sample]:
        return {node.id: await _sample(node, rows) for node in graph.nodes if isinstance(node, SourceNode)}

    with asyncio.Runner() as runner:
        return runner.run(read())


async def _sample(node: SourceNode, rows: int) -> Sample:
    context = SourceContext(
        operator_id=node.id,
        clock=SystemClock(),
        random=Chance(0),
        run_blocking=Inline(),
        batch_rows=rows,
        on_error=node.on_error,
    )
    batches: list[AnyBatch] = []
    patience = asyncio.timeout(None)
    try:
        async with patience:
            more = await _read(node.source, context, rows, batches, patience)
    except TimeoutError:
        if not patience.expired():
            raise
        more = True
    if not batches:
        raise JobDefinitionError(
            f"{node.id} has no records", hint="a simulation needs some input: give it a source that has some"
        )
    batch = _joined(batches)
    more = more or len(batch) > rows
    batch = batch.part(0, rows)
    times = _times(node, batch)
    return Sample(node.source.output_type(), batch, times, node.watermark.bound, all=not more)


async def _read(
    source: Source, context: SourceContext, rows: int, batches: list[AnyBatch], patience: asyncio.Timeout
) -> bool:
    """Appends batches of at least `rows` rows together, if there are that many; returns whether there may be more.

    An unbounded source may have no record or split yet: `patience` ends the waiting.
    """
    enumerator = source.enumerator(context)
    clock = asyncio.get_running_loop()
    final = False
    while not final:
        if not source.bounded:
            patience.reschedule(clock.time() + _PATIENCE)
        discovery = await enumerator.discover()
        final = discovery.final
        for split in discovery.splits:
            reader = source.reader(split, None, context)
            try:
                while True:
                    if sum(map(len, batches)) > rows or (
                        not source.bounded and sum(map(len, batches)) >= rows
                    ):
                        return True
                    if not source.bounded:
                        patience.reschedule(clock.time() + _PATIENCE)
                    fetch = await reader.fetch()
                    if fetch is None:
                        break
                    decoded = fetch.decode()
                    if len(decoded.batch):
                        batches.append(decoded.batch)
            finally:
                await reader.close()
        if not source.bounded and batches:
            return True
    return False


def _joined(batches: Sequence[AnyBatch]) -> AnyBatch:
    frames = [batch.frame for batch in batches if isinstance(batch, FrameBatch)]
    if frames:
        return FrameBatch(concatenated(frames))
    parts = [batch for batch in batches if isinstance(batch, RowBatch)]
    values = [value for part in parts for value in part.values]
    if parts[0].times is None:
        return RowBatch(values)
    return RowBatch(values, [time for part in parts for time in part.times or ()])


def _times(node: SourceNode, batch: AnyBatch) -> tuple[int, ...] | None:
    """The event time of each record; one without a time takes that of the record before it."""
    if not node.type.timed:
        return None
    whole = _times_in(_stamped(node, batch)) if node.timestamps is not None else _times_in(batch)
    if len(whole) == len(batch):
        return tuple(whole)
    times: list[int] = []
    for row in range(len(batch)):
        own = _times_in(_stamped(node, Sample(node.type, batch, None, 0, all=True).take([row])))
        times.append(own[0] if own else times[-1] if times else 0)
    return tuple(times)


def _stamped(node: SourceNode, batch: AnyBatch) -> AnyBatch:
    assert node.timestamps is not None
    context = OperatorContext(
        operator_id=node.id,
        subtask=0,
        parallelism=1,
        max_parallelism=128,
        clock=TestClock(),
        random=Chance(0),
        state=MemoryBackend(),
    )
    kept = _Kept()
    raw = node.source.output_type()
    node.timestamps.build(context, [raw]).process_batch(batch, 0, kept)
    return _joined(kept.batches) if kept.batches else RowBatch([], [])


def _times_in(batch: AnyBatch) -> list[int]:
    if isinstance(batch, RowBatch):
        return list(batch.times or ())
    return batch.frame[EVENT_TIME].to_physical().to_list() if batch.timed else []


class _Kept:
    """A collector of records that get an event time."""

    def __init__(self) -> None:
        self.batches: list[AnyBatch] = []

    def emit(self, batch: AnyBatch) -> None:
        self.batches.append(batch)

    def emit_to(self, output: str, batch: AnyBatch) -> None:
        """Drops a record without an event time: the job judges it when it runs."""

    def connected(self, output: str) -> bool:
        return True
