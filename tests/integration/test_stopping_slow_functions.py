"""A stop takes about the time of a few records, wherever a slow function is, and loses and doubles nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

import streamflow as sf

Mode = Literal["streaming", "micro-batch", "batch"]
Stream = sf.Stream

ROWS = 16_384
ASKED = 40
MOST = 1_500
"""Calls until it has ended: 0.2 seconds in each of two subtasks, and the second for which what nobody can tell how long
it takes is waited for."""


class Slow:
    """A function that takes long, if it is slow, and asks for a stop once it has been called often."""

    def __init__(self, *, slow: bool, seconds: float = 0.001) -> None:
        self.slow = slow
        self.seconds = seconds
        self.calls = 0
        self.asked = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def __call__(self, value: Any) -> Any:
        self.calls += 1
        if self.slow:
            until = time.perf_counter() + self.seconds
            while time.perf_counter() < until:
                pass
            if self.calls >= ASKED:  # two threads may count one number
                self.loop.call_soon_threadsafe(self.asked.set)
        return value


def at_the_source(s: Stream, slow: Slow) -> Stream:
    return s.map(slow, schema={"k": int, "v": int}).select("v")


def in_a_key(s: Stream, slow: Slow) -> Stream:
    return s.key_by(lambda row: slow(row)["v"], null_keys="group").aggregate(v=sf.max("v")).select("v")


def in_another_task(s: Stream, slow: Slow) -> Stream:
    return s.parallel(1).map(slow, schema={"k": int, "v": int}).parallel(2).select("v")


def in_a_process(s: Stream, slow: Slow) -> Stream:
    class Each(sf.KeyedProcess):
        output = {"v": int}  # noqa: RUF012

        def on_event(self, event: Any, ctx: Any) -> None:
            ctx.emit({"v": slow(event["v"])})

    return s.key_by("k").process(Each)


def in_timers(s: Stream, slow: Slow) -> Stream:
    class Each(sf.KeyedProcess):
        output = {"v": int}  # noqa: RUF012

        def on_event(self, event: Any, ctx: Any) -> None:
            ctx.set_timer(ctx.timestamp)

        def on_timer(self, timer: sf.Timer, ctx: Any) -> None:
            ctx.emit({"v": slow(ctx.key)})

    return s.key_by("v").process(Each)


def in_an_aggregate(s: Stream, slow: Slow) -> Stream:
    class Last(sf.Aggregator):
        def create(self) -> int:
            return 0

        def add(self, accumulator: int, value: int) -> int:
            return int(slow(value))

        def merge(self, left: int, right: int) -> int:
            return max(left, right)

        def result(self, accumulator: int) -> int:
            return accumulator

    return s.key_by("k", "v").window(sf.tumbling("1d")).aggregate(last=Last("v")).select(v="last")


def behind_a_window(s: Stream, slow: Slow) -> Stream:
    counted = s.key_by("v").window(sf.tumbling("1d")).aggregate(n=sf.count())
    return counted.map(lambda row: {"v": slow(row["v"])}, schema={"v": int})


Place = Callable[[Stream, Slow], Stream]
PLACES: list[Place] = [
    at_the_source,
    in_a_key,
    in_another_task,
    in_a_process,
    in_timers,
    in_an_aggregate,
    behind_a_window,
]


def ended(place: Place, mode: Mode, *, slow: bool, **settings: Any) -> tuple[Slow, list[int], sf.JobResult]:
    return asyncio.run(until_its_end(place, mode, slow, settings))


async def until_its_end(
    place: Place, mode: Mode, slow: bool, settings: dict[str, Any]
) -> tuple[Slow, list[int], sf.JobResult]:
    """(the function, what came out, the result) of a job that is stopped if the function is slow."""
    function = Slow(slow=slow)
    job = sf.Job("slow")
    frame = pl.DataFrame({"k": [n % 7 for n in range(ROWS)], "v": range(ROWS)})
    read = job.read(sf.MemorySource(frame), event_time=sf.epoch("v", unit="s")).named("numbers")
    out = place(read, function).collect()
    handle = await job.start(mode=mode, parallelism=2, **settings)
    if slow:
        async with asyncio.timeout(60):
            await function.asked.wait()
        result = await handle.stop()
    else:
        result = await handle.wait()
    return function, sorted(row["v"] for row in out.rows()), result


@pytest.mark.parametrize("place", PLACES)
def test_what_is_not_waited_for_is_read_again(place: Place, tmp_path: Path) -> None:
    settings = {"checkpoint_dir": str(tmp_path), "checkpoint_interval": "1h"}
    function, rows, result = ended(place, "streaming", slow=True, **settings)
    assert function.calls < MOST
    assert rows == []
    assert "without waiting for slow functions: this one took no checkpoint" in result.notes[-1]
    _, rows, _ = ended(place, "streaming", slow=False, **settings)
    assert rows == list(range(ROWS))


@pytest.mark.parametrize("place", [in_a_process, in_another_task])
@pytest.mark.parametrize("mode", ["micro-batch", "batch"])
def test_the_other_modes(place: Place, mode: Mode, tmp_path: Path) -> None:
    function, _, _ = ended(place, mode, slow=True, checkpoint_dir=str(tmp_path))
    assert function.calls < MOST
    _, rows, _ = ended(place, mode, slow=False, checkpoint_dir=str(tmp_path))
    assert rows == list(range(ROWS))


def test_without_checkpoints_what_has_been_processed_comes_out(caplog: pytest.LogCaptureFixture) -> None:
    function, rows, result = ended(at_the_source, "streaming", slow=True)
    assert len(rows) == function.calls < MOST
    assert f"{ROWS - len(rows)} records that had been read were not processed" in result.notes[-1]
    assert "slow functions were not waited for" in caplog.messages


def test_the_last_checkpoint_is_gone_on_from(tmp_path: Path) -> None:
    asyncio.run(stopped_and_gone_on(tmp_path))


async def stopped_and_gone_on(tmp_path: Path) -> None:
    """Earlier records are not read again, and come out once."""
    settings: dict[str, Any] = {"checkpoint_dir": str(tmp_path / "checkpoints"), "checkpoint_interval": "1h"}
    settings |= {"channel_rows": 400}  # what lies before a barrier is soon worked off
    fast = 3_000
    calls: list[int] = []
    begun = asyncio.Event()
    slow = Slow(slow=True, seconds=0.005)

    def each(row: dict[str, Any]) -> dict[str, Any]:
        calls.append(row["v"])
        if len(calls) == 500:
            slow.loop.call_soon_threadsafe(begun.set)
        return slow(row) if row["v"] >= fast else row  # type: ignore[no-any-return]

    def job() -> sf.Job:
        made = sf.Job("slow")
        source = sf.MemorySource([{"v": n} for n in range(10_000)], schema={"v": sf.Int64}, batch_rows=25)
        read = made.read(source).named("numbers").parallel(1).map(each, schema={"v": int}).parallel(2)
        read.write(sf.FileSink(tmp_path / "out", format="ndjson"))
        return made

    handle = await job().start(mode="streaming", **settings)
    await begun.wait()
    number = await handle.checkpoint()
    await slow.asked.wait()
    result = await handle.stop(savepoint=str(tmp_path / "savepoint"))
    assert f"continues from checkpoint {number}" in result.notes[-1]
    assert (tmp_path / "savepoint").is_dir()
    before, slow.slow = set(pl.read_ndjson(str(tmp_path / "out/*.ndjson"))["v"]), False
    assert before
    calls.clear()
    await (await job().start(mode="streaming", **settings)).wait()
    assert before.isdisjoint(calls)
    assert sorted(pl.read_ndjson(str(tmp_path / "out/*.ndjson"))["v"]) == list(range(10_000))
