"""Costs that must not grow faster than what they are for: counted in steps, not in time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.elements import Barrier
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.graph.logical import Input
from streamflow.graph.physical import ExchangeKind, PhysicalEdge
from streamflow.operators.connectors.fixed_splits import FixedSplits
from streamflow.operators.contract.source import Decoded, Fetch, Position, Source, SourceContext, Split
from streamflow.runtime.assembly import Assembly
from streamflow.runtime.exchange.channel import Channel, Inbox
from streamflow.runtime.exchange.routes import route_for
from streamflow.runtime.ports import Inline, Ports
from streamflow.testing import SteppedLoop, TestClock, TestJob
from tests.steps import steps_of


def test_assembling_costs_so_much_a_subtask_and_a_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange of p by p subtasks has p² channels, which are small; that each subtask looked at all of them made
    it p³."""
    steps: list[int] = []
    build = Assembly.build

    async def counted(assembly: Assembly) -> None:
        steps.append(steps_of(to_its_end, build(assembly)))

    monkeypatch.setattr(Assembly, "build", counted)
    for parallelism in (8, 16, 32):
        with TestJob(exchanging(), parallelism=parallelism):
            """Building is what counts."""
    at_8, at_16, at_32 = steps
    assert at_16 < 2.4 * at_8
    assert at_32 < 2.7 * at_16


def to_its_end(making: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine that lets other tasks run and waits for nothing."""
    with suppress(StopIteration):
        while True:
            making.send(None)


def exchanging() -> sf.Job:
    job = sf.Job("exchanging")
    rows = job.read(sf.MemorySource([{"k": "a", "v": 1, "ts": 0}]), event_time=sf.epoch("ts", unit="s"))
    sums = rows.key_by("k").window(sf.tumbling("1m")).aggregate(v=sf.sum("v"))
    sums.key_by("v").window(sf.tumbling("1h")).aggregate(n=sf.count()).collect()
    return job


def test_an_element_costs_no_more_where_many_channels_are_quiet() -> None:
    assert received(256) < 1.2 * received(16)


def received(channels: int) -> float:
    """Steps to send and read an element, where the channels take turns and all others are empty."""
    inbox = Inbox([Channel() for _ in range(channels)])

    async def pass_on() -> None:
        for channel in inbox.channels:
            await channel.send(Barrier(1))
            assert inbox.receive_nowait() == (channel.number, Barrier(1))
            assert inbox.receive_nowait() is None

    return steps_of(asyncio.run, pass_on()) / channels


def test_a_small_batch_costs_no_more_where_many_subtasks_wait_for_it() -> None:
    assert routed(128) < 1.1 * routed(2)


def routed(lower: int) -> int:
    """Steps to find the subtasks of a batch's only row."""
    edge = PhysicalEdge("upper", Input("upper"), "lower", 0, ExchangeKind.HASH, ("k",))
    route = route_for(edge, subtask=0, lower=lower, max_parallelism=128)
    batch = FrameBatch(pl.DataFrame({"k": ["a"]}))
    route(batch)
    return steps_of(route, batch)


def test_a_status_costs_so_much_an_operator_and_subtask() -> None:
    steps: dict[int, int] = {}
    for operators in (10, 20, 40):
        with TestJob(chained(operators), parallelism=4) as t:
            t.source().push([{"v": 1}])
            steps[operators] = steps_of(t.status)
    assert steps[20] < 2 * steps[10]
    assert steps[40] < 2 * steps[20]


def chained(operators: int) -> sf.Job:
    job = sf.Job("chained")
    stream = job.read(sf.MemorySource([{"v": 1}]))
    for _ in range(operators):
        stream = stream.filter(sf.col("v") > 0).map(lambda row: row, schema={"v": sf.Int64})
    stream.collect()
    return job


def test_opening_splits_costs_so_much_a_split() -> None:
    opening = {splits: opened(splits)[0] for splits in (100, 200, 400)}
    assert opening[200] < 2.2 * opening[100]
    assert opening[400] < 2.2 * opening[200]


def test_a_piece_costs_no_more_where_many_splits_are_open() -> None:
    assert opened(400)[1] < 1.2 * opened(50)[1]


def opened(splits: int) -> tuple[int, float]:
    """Steps to open so many splits in one subtask, and for each piece of some of them."""
    clock = TestClock()
    loop = SteppedLoop(clock)
    source = Splits(splits)
    job = sf.Job("splits")
    strategy = sf.bounded_disorder(idle_after="10s", max_drift="1d")
    job.read(source, watermark=strategy).collect()
    ports = Ports(clock=clock, io=Inline(), cpu=Inline())
    try:
        started = job.start(ports=ports, mode="streaming", state_backend="memory")
        opening = steps_of(loop.run_virtually, started)
        assert len(source.readers) == splits

        def speak() -> None:
            for reader in source.readers[:20]:
                reader.speak.set()
                loop.settle()

        return opening, steps_of(speak) / 20
    finally:
        loop.close_quietly()


@dataclass(frozen=True, eq=False)
class Splits(Source):
    """So many splits without end; each has a record when its reader is to speak."""

    count: int
    readers: list[Reader] = field(default_factory=list)

    @property
    def bounded(self) -> bool:
        return False

    def output_type(self) -> StreamType:
        return StreamType(Schema({"n": pl.Int64}), timed=True)

    def enumerator(self, ctx: SourceContext) -> FixedSplits:
        return FixedSplits(*(Split(str(n), {"n": n}, unbounded=True) for n in range(self.count)))

    def reader(self, split: Split, position: Position | None, ctx: SourceContext) -> Reader:
        self.readers.append(Reader(split.payload["n"]))
        return self.readers[-1]


@dataclass
class Reader:
    number: int
    speak: asyncio.Event = field(default_factory=asyncio.Event)

    async def fetch(self) -> Fetch:
        await self.speak.wait()
        self.speak.clear()
        return Fetch(self.decode, {}, 8)

    def decode(self) -> Decoded:
        time = pl.Series(EVENT_TIME, [self.number], dtype=pl.Int64).cast(EVENT_TIME_TYPE)
        return Decoded(FrameBatch(pl.DataFrame([pl.Series("n", [self.number]), time])))

    async def close(self) -> None:
        """Nothing is held."""
