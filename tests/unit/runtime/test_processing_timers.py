"""Processing-time timers: the task loops see to it that operators go on when their moment has come, data or not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import streamflow as sf
from streamflow.runtime.ports import Inline, Ports
from streamflow.testing import SteppedLoop, TestClock, TestJob


class Remind(sf.KeyedProcess):
    """Says so when nothing has come for a key for ten seconds."""

    due = sf.ValueState(int)

    def on_event(self, event: dict[str, Any], ctx: Any) -> None:
        self.due.update(event["n"])
        ctx.set_processing_timer("10s")

    def on_timer(self, timer: Any, ctx: Any) -> None:
        ctx.emit({"k": ctx.key, "n": self.due.value()})


def reminding() -> sf.Job:
    job = sf.Job("reminding")
    rows = job.read(sf.MemorySource([{"k": "a", "n": 0}], schema={"k": sf.String, "n": sf.Int64}))
    rows.key_by("k").process(Remind(), schema={"k": sf.String, "n": sf.Int64}).collect()
    return job


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_timer_fires_when_nothing_comes(parallelism: int) -> None:
    with TestJob(reminding(), parallelism=parallelism, checkpoint_interval="1s") as t:
        t.source().push([{"k": "a", "n": 1}, {"k": "b", "n": 2}])
        t.advance_processing_time("9s")
        assert t.output().rows() == []
        t.advance_processing_time("2s")
        assert sorted(row["n"] for row in t.output().rows()) == [1, 2]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_timer_fires_between_records(parallelism: int) -> None:
    with TestJob(reminding(), parallelism=parallelism, checkpoint_interval="1s") as t:
        t.source().push([{"k": "a", "n": 1}])
        for n in range(12):
            t.advance_processing_time("1s")
            t.source().push([{"k": "b", "n": n}])
        assert {"k": "a", "n": 1} in t.output().rows()


class Once(sf.KeyedProcess):
    """Puts a row out by the clock, a second after each event."""

    output: ClassVar[object] = {"k": sf.String}

    def on_event(self, event: dict[str, Any], ctx: Any) -> None:
        ctx.set_processing_timer("1s")

    def on_timer(self, timer: Any, ctx: Any) -> None:
        ctx.emit({"k": ctx.key})


async def one_and_then_quiet(start: int = 0) -> AsyncIterator[dict[str, str]]:
    if not start:
        yield {"k": "a"}
    await asyncio.sleep(1e6)


@pytest.mark.parametrize("asked", ["checkpoint", "stop", "drain"])
def test_what_is_asked_for_while_timers_fire_is_done(tmp_path: Path, asked: str) -> None:
    """A source that is quiet is woken also by what came while the rows of its timers were being written."""

    async def whole() -> None:
        job = sf.Job("timers")
        source = sf.source(one_and_then_quiet, schema={"k": sf.String})
        writing = asyncio.Event()

        async def write(rows: list[dict[str, str]]) -> None:
            writing.set()
            await asyncio.sleep(1)

        job.read(source).key_by("k").process(Once).write(sf.sink(write))
        ports = Ports(clock=clock, io=Inline(), cpu=Inline())
        handle = await job.start(
            ports=ports, state_backend="memory", checkpoint_dir=tmp_path, checkpoint_interval="1d"
        )
        await writing.wait()
        if asked == "checkpoint":
            assert await handle.checkpoint() == 1
        await handle.stop(drain=asked == "drain")

    clock = TestClock()
    loop = SteppedLoop(clock)
    try:
        loop.run_virtually(whole())
    finally:
        loop.close_quietly()
    assert clock.monotonic() < 60
