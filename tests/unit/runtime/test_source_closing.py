"""A source's open resources are closed to the end, also if the job fails meanwhile for another reason."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.connectors.fixed_splits import FixedSplits
from streamflow.operators.contract.source import Fetch, Position, Source, SourceContext, Split

Step = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Steps(Source):
    """A split for each pair of what is awaited in place of its first record, and when it is closed."""

    splits: tuple[tuple[Step, Step], ...]

    @property
    def bounded(self) -> bool:
        return False

    def output_type(self) -> StreamType:
        return StreamType(Schema({"n": pl.Int64}), timed=False)

    def enumerator(self, ctx: SourceContext) -> FixedSplits:
        return FixedSplits(*(Split(str(n), {"n": n}, unbounded=True) for n in range(len(self.splits))))

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> Reader:
        return Reader(*self.splits[split.payload["n"]])


@dataclass
class Reader:
    first: Step
    closing: Step

    async def fetch(self) -> Fetch | None:
        await self.first()
        raise sf.SourceError("it is away")

    async def close(self) -> None:
        await self.closing()


def test_a_reader_is_closed_to_its_end_though_the_job_is_ended_meanwhile() -> None:
    closed: list[str] = []

    async def run() -> None:
        begun = asyncio.Event()

        async def never() -> None:
            await asyncio.Event().wait()

        async def at_once() -> None:
            """Nothing is waited for."""

        async def slowly() -> None:
            begun.set()
            for _ in range(100):
                await asyncio.sleep(0)
            closed.append("slowly")

        async def wait() -> None:
            await begun.wait()

        job = sf.Job("closing")
        # The first fails, and while it closes what it has open the second does.
        first = job.read(Steps(((never, slowly), (at_once, at_once))))
        second = job.read(Steps(((wait, at_once),)))
        first.union(second).collect()
        handle = await job.start(mode="streaming", restart="none")
        await handle.wait()

    with pytest.raises(sf.SourceError, match="it is away"):
        asyncio.run(run())
    assert closed == ["slowly"]
