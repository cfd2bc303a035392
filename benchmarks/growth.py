"""Costs that grow with the size of a job, not with its data: assembling, a status, many splits in one subtask.

All are processor time of the event loop's thread, which other programs of the machine change little.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import polars as pl

import streamflow as sf
from benchmarks.figures import Figure
from benchmarks.program import run_fresh
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.source import (
    Decoded,
    Discovery,
    Fetch,
    Position,
    Source,
    SourceContext,
    Split,
)
from streamflow.runtime.assembly import Assembly

_AT_ONCE = 100


def growth() -> list[Figure]:
    """All figures of this file, from a process of their own."""
    said = json.loads(run_fresh("growth", [sys.executable, "-m", "benchmarks.growth"]).splitlines()[-1])
    return [
        Figure("assembling at parallelism 128 with two exchanges", said["assembling"], "s", "≤", 0.5),
        Figure("status of 181 operators × 4", said["status"], "ms", "≤", 20.0),
        Figure("a piece of one of 10,000 splits in one subtask", said["piece"], "ms", "≤", 0.5),
        Figure("event loop away meanwhile, at most", said["away"], "ms", "≤", 100.0),
    ]


def assembling(parallelism: int) -> float:
    """Seconds to build all subtasks and channels."""
    job = sf.Job("assembling")
    rows = job.read(sf.DataGen(rows=1), event_time="ts")
    sums = rows.key_by("key").window(sf.tumbling("1m")).aggregate(v=sf.sum("value"))
    sums.key_by("v").window(sf.tumbling("1h")).aggregate(n=sf.count()).collect()
    taken: list[float] = []
    build = Assembly.build

    async def timed(assembly: Assembly) -> None:
        began = time.thread_time()
        await build(assembly)
        taken.append(time.thread_time() - began)

    async def run() -> None:
        handle = await job.start(mode="streaming", parallelism=parallelism, state_backend="memory")
        while not taken:  # noqa: ASYNC110 — nothing tells
            await asyncio.sleep(0.01)
        await handle.cancel()

    Assembly.build = timed  # type: ignore[method-assign]
    try:
        asyncio.run(run())
    finally:
        Assembly.build = build  # type: ignore[method-assign]
    return taken[0]


async def status(operators: int) -> float:
    """Milliseconds for a status of a running job with so many operators in four subtasks each."""
    job = sf.Job("status")
    stream: Any = job.read(sf.DataGen({"v": sf.col("index")}, rate=100))
    for number in range(operators - 2):
        stream = (
            stream.filter(sf.col("v") >= 0)
            if number % 2
            else stream.map(lambda row: row, schema={"v": sf.Int64})
        )
    stream.collect()
    handle = await job.start(mode="streaming", parallelism=4, state_backend="memory")
    taken: list[float] = []
    try:
        await asyncio.sleep(0.5)
        for _ in range(5):
            began = time.thread_time()
            handle.status()
            taken.append(1_000 * (time.thread_time() - began))
            await asyncio.sleep(0)
    finally:
        await handle.cancel()
    return median(taken)


async def splits(count: int) -> tuple[float, float]:
    """Milliseconds for each piece, where the splits of one subtask have one each, a hundred of them at a time, and the
    most for which the event loop did not come round."""
    source = Splits(count)
    job = sf.Job("splits")
    job.read(source, watermark=sf.bounded_disorder("1s", idle_after="1m")).collect()
    handle = await job.start(mode="streaming", parallelism=1, state_backend="memory")
    longest = [0.0]
    looking = asyncio.create_task(longest_round(longest))
    try:
        while len(source.readers) < count:  # noqa: ASYNC110 — nothing tells
            await asyncio.sleep(0.01)
        began = time.thread_time()
        taken_in = handle.registry.operator("read-1", 0).records_in
        for spoken in range(_AT_ONCE, count + 1, _AT_ONCE):
            for reader in source.readers[spoken - _AT_ONCE : spoken]:
                reader.speak.set()
            while taken_in.value < spoken:  # noqa: ASYNC110 — nothing tells
                await asyncio.sleep(0)
        taken = 1_000 * (time.thread_time() - began) / count
    finally:
        looking.cancel()
        await handle.cancel()
    return taken, longest[0]


async def longest_round(longest: list[float]) -> None:
    """Notes the longest round of the event loop, in milliseconds, without the collection of garbage."""
    collecting = 0.0

    def collect(phase: str, info: dict[str, int]) -> None:
        nonlocal collecting
        collecting += -time.thread_time() if phase == "start" else time.thread_time()

    gc.callbacks.append(collect)
    last = time.thread_time()
    try:
        while True:
            before = collecting
            await asyncio.sleep(0)
            now = time.thread_time()
            longest[0] = max(longest[0], 1_000 * (now - last - (collecting - before)))
            last = now
    finally:
        gc.callbacks.remove(collect)


@dataclass(eq=False)
class Splits(Source):
    """So many splits without end; each has one record when its reader is to speak."""

    count: int
    readers: list["_Reader"] = field(default_factory=list)

    @property
    def bounded(self) -> bool:
        return False

    def output_type(self) -> StreamType:
        return StreamType(Schema({"n": pl.Int64}), timed=True)

    def enumerator(self, ctx: SourceContext) -> "_Enumerator":
        return _Enumerator([Split(str(n), {"n": n}, unbounded=True) for n in range(self.count)])

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> "_Reader":
        self.readers.append(_Reader(split.payload["n"]))
        return self.readers[-1]


@dataclass
class _Enumerator:
    splits: Sequence[Split]

    async def discover(self) -> Discovery:
        return Discovery(self.splits, final=True)

    def snapshot(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Any) -> None:
        """There is nothing to restore."""


@dataclass
class _Reader:
    number: int
    speak: asyncio.Event = field(default_factory=asyncio.Event)

    async def fetch(self) -> Fetch:
        await self.speak.wait()
        self.speak.clear()
        return Fetch(self._decode, {"done": True}, 8)

    def _decode(self) -> Decoded:
        time = pl.Series(EVENT_TIME, [self.number], dtype=pl.Int64).cast(EVENT_TIME_TYPE)
        return Decoded(FrameBatch(pl.DataFrame([pl.Series("n", [self.number]), time])))

    async def close(self) -> None:
        """Nothing is held."""


if __name__ == "__main__":
    # Assembling first: what the others leave behind makes the collection of garbage longer.
    figures = {"assembling": assembling(128), "status": asyncio.run(status(181))}
    figures["piece"], figures["away"] = asyncio.run(splits(10_000))
    print(json.dumps(figures))
