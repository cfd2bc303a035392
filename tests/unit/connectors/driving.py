"""Drives sources and sinks without a runtime: everything in one task, blocking work inline or on threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import polars as pl

from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.sink import Committable, Sink, SinkContext
from streamflow.operators.contract.source import Fetch, Position, Source, SourceContext, Split, SplitReader
from streamflow.runtime.ports import Inline
from streamflow.time.clock import Clock, SeededRandom, SystemClock

T = TypeVar("T")


class JumpingClock:
    """A clock whose sleeps are over at once and move it on; `slept` remembers them."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> int:
        return int(self.time * 1_000_000)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


def source_context(
    *,
    batch_rows: int = 1000,
    on_error: ErrorPolicy = "fail",
    columns: Sequence[str] | None = None,
    clock: Clock | None = None,
    run_blocking: Callable[..., Any] | None = None,
) -> SourceContext:
    return SourceContext(
        operator_id="source",
        clock=clock or SystemClock(),
        random=SeededRandom(1),
        run_blocking=run_blocking or Inline(),
        batch_rows=batch_rows,
        on_error=on_error,
        columns=columns,
    )


@dataclass
class Reading:
    """The output of a source: rows, the positions behind each piece, problems."""

    batches: list[AnyBatch] = field(default_factory=list)
    positions: list[tuple[Split, Position, int]] = field(default_factory=list)
    """(split, position behind a piece, rows read until then)"""
    bad: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Any]:
        return [row for batch in self.batches for row in rows_of(batch)]


def rows_of(batch: AnyBatch) -> list[Any]:
    return batch.frame.to_dicts() if isinstance(batch, FrameBatch) else list(batch.values)


def read(source: Source, **options: Any) -> Reading:
    """All of a source, split after split."""
    context = source_context(**options)

    async def run() -> Reading:
        reading = Reading()
        discovery = await source.enumerator(context).discover()
        for split in discovery.splits:
            await _drain(source.reader(split, None, context), split, reading)
        return reading

    return asyncio.run(run())


def rows(source: Source, **options: Any) -> list[Any]:
    return read(source, **options).rows


def read_on(source: Source, split: Split, position: Position | None, **options: Any) -> list[Any]:
    """The rest of one split, from a position."""
    context = source_context(**options)

    async def run() -> Reading:
        reading = Reading()
        await _drain(source.reader(split, position, context), split, reading)
        return reading

    return asyncio.run(run()).rows


def discover(source: Source, **options: Any) -> list[Split]:
    return list(asyncio.run(source.enumerator(source_context(**options)).discover()).splits)


async def _drain(reader: SplitReader, split: Split, into: Reading) -> None:
    seen = 0
    try:
        while (fetch := await reader.fetch()) is not None:
            decoded = await asyncio.to_thread(fetch.decode)
            into.batches.append(decoded.batch)
            into.bad.extend(str(error) for error in decoded.bad)
            seen += len(decoded.batch)
            into.positions.append((split, fetch.position, seen))
    finally:
        await reader.close()


async def fetches(reader: SplitReader) -> list[Fetch]:
    found = []
    while (fetch := await reader.fetch()) is not None:
        found.append(fetch)
    return found


def sink_context(*, subtask: int = 0, parallelism: int = 1, seed: int = 1) -> SinkContext:
    return SinkContext(
        operator_id="sink",
        subtask=subtask,
        parallelism=parallelism,
        clock=SystemClock(),
        random=SeededRandom(seed),
        run_blocking=Inline(),
    )


def stream_type(batch: AnyBatch) -> StreamType:
    if isinstance(batch, FrameBatch):
        return StreamType(Schema(batch.user_frame().schema), timed=EVENT_TIME in batch.frame.columns)
    return StreamType(OBJECTS, timed=batch.times is not None)


def write(
    sink: Sink, *epochs: Sequence[AnyBatch], subtask: int = 0, seed: int = 1
) -> list[list[Committable]]:
    """Write epochs of batches with one subtask and commit each."""
    context = sink_context(subtask=subtask, seed=seed)
    kind = stream_type(next(batch for epoch in epochs for batch in epoch))

    async def run() -> list[list[Committable]]:
        sink.check(kind)
        writer, committer = sink.writer(kind, context), sink.committer(context)
        handed = []
        try:
            for number, batches in enumerate(epochs, start=1):
                for batch in batches:
                    await writer.write(batch)
                sealed = list(await writer.prepare(number))
                handed.append(sealed)
                if committer is not None and sealed:
                    await committer.commit(number, sealed)
        finally:
            await writer.close()
        return handed

    return asyncio.run(run())


def frame(**columns: Any) -> FrameBatch:
    return FrameBatch(pl.DataFrame(columns))


def objects(*values: Any) -> RowBatch:
    return RowBatch(list(values))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)
