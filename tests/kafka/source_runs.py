"""Reads a Kafka source as the runtime would, without one: what comes out of each partition, and where it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamflow.core.batch import RowBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME
from streamflow.errors import RecordError
from streamflow.observe.registry import OperatorMetrics
from streamflow.operators.connectors.kafka.source import KafkaSource
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import Instance, Position, SourceContext, Split
from streamflow.runtime.ports import Inline
from streamflow.time.clock import SeededRandom, SystemClock

__all__ = ["ReadBack", "context", "read_split", "read_to_end", "rows_of"]


@dataclass
class ReadBack:
    """The records read: rows, event times (microseconds), bad records, and the last position of each split."""

    rows: list[Any] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    bad: list[RecordError] = field(default_factory=list)
    positions: dict[str, Position] = field(default_factory=dict)
    metrics: OperatorMetrics = field(default_factory=lambda: OperatorMetrics("read-1", 0))


def context(
    *,
    columns: Sequence[str] | None = None,
    on_error: ErrorPolicy = "skip",
    instance: Instance = Instance(),  # noqa: B008 — it is frozen
    batch_rows: int = 65_536,
    metrics: OperatorMetrics | None = None,
) -> SourceContext:
    return SourceContext(
        operator_id="read-1",
        clock=SystemClock(),
        random=SeededRandom(1),
        run_blocking=Inline(),
        batch_rows=batch_rows,
        on_error=on_error,
        columns=columns,
        instance=instance,
        metrics=metrics or OperatorMetrics("read-1", 0),
    )


def rows_of(batch: FrameBatch | RowBatch) -> tuple[list[Any], list[int]]:
    if isinstance(batch, RowBatch):
        return list(batch.values), list(batch.times or ())
    times = batch.frame[EVENT_TIME].to_physical().to_list()
    return batch.frame.drop(EVENT_TIME).to_dicts(), times


async def read_split(
    source: KafkaSource, split: Split, position: Position | None, ctx: SourceContext, into: ReadBack
):
    """One split, from a position to its end."""
    reader = source.reader(split, position, ctx)
    try:
        while (fetch := await reader.fetch()) is not None:
            decoded = fetch.decode()
            rows, times = rows_of(decoded.batch)
            into.rows += rows
            into.times += times
            into.bad += decoded.bad
            into.positions[split.id] = fetch.position
    finally:
        await reader.close()


def read_to_end(source: KafkaSource, **options: Any) -> ReadBack:
    """A bounded source, all splits side by side; rows split by split within each batch."""
    read = ReadBack()

    async def run() -> None:
        ctx = context(metrics=read.metrics, **options)
        enumerator = source.enumerator(ctx)
        found = (await enumerator.discover()).splits
        async with asyncio.timeout(60):
            await asyncio.gather(*(read_split(source, split, None, ctx, read) for split in found))

    asyncio.run(run())
    return read
