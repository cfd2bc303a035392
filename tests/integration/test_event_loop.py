"""The event loop goes on whatever a job works on: the fixture of all tests fails these where it is blocked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import polars as pl

import streamflow as sf


def busy(seconds: float) -> None:
    """Keep the processor busy."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(100))


def test_a_small_batch_may_fire_large_windows() -> None:
    keys = 12 << 16  # whole batches, so that the record that closes the window comes alone
    frame = pl.DataFrame({"k": range(keys + 1), "at": [0] * keys + [60]})
    job = sf.Job("many-keys")
    events = job.read(sf.MemorySource(frame), event_time=sf.epoch("at", unit="s"))
    out = events.key_by("k").window(sf.tumbling("10s")).aggregate(n=sf.count()).collect()
    job.run(mode="streaming", batch_rows=1 << 16)
    assert out.frame().height == keys + 1


def test_slow_functions_of_small_batches() -> None:
    def slow(row: dict[str, Any]) -> dict[str, Any]:
        busy(0.0006)
        return row

    job = sf.Job("slow")
    rows = job.read(sf.MemorySource([{"n": n, "m": n} for n in range(900)], batch_rows=450))
    out = rows.map(slow, schema={"n": sf.Int64, "m": sf.Int64}).collect()
    job.run(mode="streaming")
    assert len(out.rows()) == 900


def test_slow_processes_of_small_batches() -> None:
    class Slow(sf.KeyedProcess):
        output = {"n": sf.Int64}  # noqa: RUF012

        def on_event(self, event: dict[str, Any], ctx: Any) -> None:
            busy(0.001)
            ctx.set_processing_timer("10ms")

        def on_timer(self, timer: Any, ctx: Any) -> None:
            busy(0.001)
            ctx.emit({"n": 1})

    async def rows() -> AsyncIterator[dict[str, int]]:
        for n in range(500):
            if n % 250 == 0:
                await asyncio.sleep(0.05)
            yield {"k": n, "n": n}
        await asyncio.sleep(0.5)

    job = sf.Job("slow")
    source = sf.source(rows, schema={"k": sf.Int64, "n": sf.Int64})
    job.read(source).key_by("k").process(Slow).collect()
    assert job.run(mode="streaming").records_in["process-1"] == 500


def test_a_full_inbox() -> None:
    """Elements that have piled up before a task are worked off without keeping other tasks waiting."""

    class Each(sf.KeyedProcess):
        output = {"n": sf.Int64}  # noqa: RUF012

        def on_event(self, event: dict[str, Any], ctx: Any) -> None:
            busy(0.0005)
            ctx.emit({"n": event["n"]})

    async def write(rows: list[Any]) -> None:
        nonlocal written
        if not written:
            await asyncio.sleep(0.5)
        written += len(rows)

    written = 0
    job = sf.Job("full")
    rows = job.read(sf.MemorySource([{"k": n, "n": n} for n in range(1_000)], batch_rows=2))
    rows.key_by("k").process(Each).parallel(1).write(sf.sink(write))
    job.run(mode="streaming", parallelism=2)
    assert written == 1_000
