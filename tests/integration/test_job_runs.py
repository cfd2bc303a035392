"""Runs of whole jobs: held back by a slow sink, failing, stopped, interrupted, scraped, run again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.core.elements import AnyBatch
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.sink import Committable, Committer, Sink, SinkContext, SinkWriter
from streamflow.runtime.ports import Inline, Ports
from streamflow.testing import SteppedLoop, TestClock

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
MODES = ["streaming", "micro-batch", "batch"]
TICKS = {"k": sf.String, "ts": sf.Int64, "n": sf.Int64}


def ticks(count: int, then: asyncio.Event | None = None) -> Any:
    """An async generator function: `count` records a second apart, then nothing more until `then` is set."""

    async def generate() -> AsyncIterator[dict[str, Any]]:
        for n in range(count):
            yield {"k": "ab"[n % 2], "ts": n * 1_000, "n": n}
        if then is not None:
            await then.wait()

    return generate


def visible(folder: Path) -> dict[str, bytes]:
    """The files that a reader of a folder sees, and what is in them."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


# Back-pressure.


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_slow_sink_holds_the_source_back(parallelism: int) -> None:
    produced = 0
    written = 0
    gate = asyncio.Event()

    async def endless() -> AsyncIterator[dict[str, Any]]:
        nonlocal produced
        for produced in range(1, 2_001):
            yield {"k": f"key {produced % 7}", "n": produced}

    async def slow(rows: list[Any]) -> None:
        nonlocal written
        await gate.wait()
        written += len(rows)

    job = sf.Job("held-back")
    read = job.read(sf.source(endless, schema={"k": sf.String, "n": sf.Int64}))
    read.filter(col("n") > 0).key_by("k").aggregate(n=sf.count()).write(sf.sink(slow))

    clock = TestClock()
    loop = SteppedLoop(clock)
    ports = Ports(clock=clock, io=Inline(), cpu=Inline())
    start = job.start(
        ports=ports, parallelism=parallelism, batch_rows=10, channel_rows=50, state_backend="memory"
    )
    try:
        handle = loop.run_virtually(start)
        loop.settle()
        assert 0 < produced < 500
        assert written == 0
        gate.set()
        result = loop.run_virtually(handle.wait())
    finally:
        loop.close_quietly()
    assert produced == 2_000
    assert result.records_in["read-1"] == 2_000
    assert written > 0


@pytest.mark.parametrize("parallelism", [1, 4])
@pytest.mark.parametrize("columns", [True, False])
def test_large_records_hold_the_source_back_by_their_size(columns: bool, parallelism: int) -> None:
    produced = 0
    gate = asyncio.Event()

    async def endless() -> AsyncIterator[dict[str, Any]]:
        nonlocal produced
        for produced in range(1, 1_001):
            yield {"k": produced % 7, "text": "x" * 10_000}

    async def same(row: dict[str, Any]) -> dict[str, Any]:
        return row

    async def slow(rows: list[Any]) -> None:
        await gate.wait()

    schema = {"k": sf.Int64, "text": sf.String}
    job = sf.Job("held-back")
    read = job.read(sf.source(endless, schema=schema if columns else None))
    given = read.key_by("k").aggregate(text=sf.max("text")) if columns else read.map_async(same, capacity=10)
    given.write(sf.sink(slow))

    clock = TestClock()
    loop = SteppedLoop(clock)
    ports = Ports(clock=clock, io=Inline(), cpu=Inline())
    start = job.start(
        ports=ports,
        parallelism=parallelism,
        batch_rows=10,
        channel_bytes=1_000_000,
        state_backend="memory",
    )
    try:
        handle = loop.run_virtually(start)
        loop.settle()
        # A megabyte on each way to a subtask, and what is in hand before and behind.
        assert 0 < produced < 300 * (1 if parallelism == 1 or columns else 2)
        gate.set()
        result = loop.run_virtually(handle.wait())
    finally:
        loop.close_quietly()
    assert result.records_in["read-1"] == 1_000


# Failures.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_failing_function_ends_the_job_and_leaves_files_as_they_were(
    mode: str, parallelism: int, tmp_path: Path
) -> None:
    kept, out = tmp_path / "kept", tmp_path / "new"
    kept.mkdir()
    (kept / "part-0-1-0.ndjson").write_text('{"n":0}\n')

    def inverse(row: dict[str, Any]) -> dict[str, Any]:
        return {"inverse": 1 // (row["n"] - 900)}

    job = sf.Job("fails")
    rows = [{"k": "ab"[n % 2], "ts": n, "n": n} for n in range(1_000)]
    read = job.read(sf.MemorySource(rows, batch_rows=50), event_time=sf.epoch("ts"))
    read.write(sf.FileSink(kept, format="ndjson", mode="overwrite"))
    counted = read.key_by("k").window(sf.tumbling("100ms")).aggregate(n=sf.count())
    counted.write(sf.FileSink(out, format="csv"))
    collected = read.map(inverse).named("inverse").collect()
    with pytest.raises(sf.RecordError, match="ZeroDivisionError") as caught:
        job.run(mode=mode, parallelism=parallelism, micro_batch_interval="1h")
    assert caught.value.where.operator == "inverse"
    assert "'n': 900" in caught.value.record
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert visible(kept) == {"part-0-1-0.ndjson": b'{"n":0}\n'}
    assert not out.exists() or visible(out) == {}
    assert len(collected) == 0


@dataclass(frozen=True, eq=False)
class _Refusing(Sink):
    """A sink whose writer, or whose committer, has a bug."""

    where: str

    def writer(self, input_type: StreamType, ctx: SinkContext) -> SinkWriter:
        return _RefusingWriter(self.where)

    def committer(self, ctx: SinkContext) -> Committer:
        return _RefusingCommitter(self.where)

    def describe(self) -> str:
        return "refusing"


@dataclass
class _RefusingWriter:
    where: str

    async def write(self, batch: AnyBatch) -> None:
        if self.where == "write":
            raise ValueError("disk on fire")

    async def prepare(self, epoch: int) -> Sequence[Committable]:
        if self.where == "prepare":
            raise ValueError("disk on fire")
        return [{"epoch": epoch}]

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class _RefusingCommitter(Committer):
    where: str

    async def restore(
        self, epoch: int, committables: Sequence[Committable], carried: Sequence[Committable] = ()
    ) -> None:
        await self.commit(epoch, committables)

    async def commit(self, epoch: int, committables: Sequence[Committable]) -> None:
        if self.where == "commit":
            raise ValueError("disk on fire")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["write", "prepare", "commit"])
def test_a_sink_that_raises_ends_the_job_and_is_named(where: str, mode: str) -> None:
    job = sf.Job("refused")
    job.read(sf.MemorySource([{"n": n} for n in range(10)], batch_rows=2)).write(_Refusing(where))
    with pytest.raises(sf.JobFailedError, match="ValueError: disk on fire") as caught:
        job.run(mode=mode, batch_rows=1, micro_batch_interval="1h")
    assert caught.value.where.operator == "write-1"


def test_a_source_that_raises_is_named() -> None:
    async def breaks() -> AsyncIterator[dict[str, Any]]:
        yield {"n": 1}
        raise ConnectionError("the line is dead")

    job = sf.Job("breaks")
    out = job.read(sf.source(breaks, bounded=True)).named("line").collect()
    with pytest.raises(sf.SourceError, match="ConnectionError: the line is dead") as caught:
        job.run()
    assert caught.value.where.operator == "line"
    assert len(out) == 0


# Stopping.


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("parallelism", [1, 2])
def test_stop_ends_an_unbounded_job(drain: bool, parallelism: int, tmp_path: Path) -> None:
    """Without drain open windows give no result; with it, they count as complete. Records read are written either
    way."""

    async def scenario() -> tuple[sf.JobResult, sf.Collected, sf.Collected]:
        arrived = asyncio.Event()
        seen: list[Any] = []

        async def watch(rows: list[Any]) -> None:
            seen.extend(rows)
            if len(seen) == 25:
                arrived.set()

        job = sf.Job("stopped")
        read = job.read(sf.source(ticks(25, then=asyncio.Event()), schema=TICKS), event_time=sf.epoch("ts"))
        read.write(sf.sink(watch))
        read.write(sf.FileSink(tmp_path / "raw", format="ndjson"))
        windows = read.key_by("k").window(sf.tumbling("10s")).aggregate(n=sf.count()).collect()
        raw = read.collect()
        handle = await job.start(parallelism=parallelism)
        await asyncio.wait_for(arrived.wait(), PATIENCE)
        assert handle.status().state == "running"
        result = await handle.stop(drain=drain)
        assert handle.status().state == "stopped"
        return result, windows, raw

    result, windows, raw = asyncio.run(scenario())
    assert result.stopped
    assert sorted(row["n"] for row in raw.rows()) == list(range(25))
    lines = b"".join(visible(tmp_path / "raw").values()).splitlines()
    assert len(lines) == 25
    expected = [("a", 5), ("a", 5), ("b", 5), ("b", 5)]
    if drain:
        expected += [("a", 3), ("b", 2)]
    assert sorted((row["k"], row["n"]) for row in windows.rows()) == sorted(expected)


def test_cancel_discards_what_was_not_committed(tmp_path: Path) -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()

        async def watch(rows: list[Any]) -> None:
            arrived.set()

        job = sf.Job("cancelled")
        read = job.read(sf.source(ticks(5, then=asyncio.Event()), schema=TICKS))
        read.write(sf.FileSink(tmp_path / "out"))
        read.write(sf.sink(watch))
        handle = await job.start()
        await asyncio.wait_for(arrived.wait(), PATIENCE)
        await handle.cancel()
        assert handle.status().state == "failed"

    asyncio.run(scenario())
    assert not (tmp_path / "out").exists() or visible(tmp_path / "out") == {}


PROGRAM = """
import asyncio
import streamflow as sf

async def ticks():
    n = 0
    while True:
        yield {"n": n}
        n += 1
        await asyncio.sleep(0.001)

job = sf.Job("ticks")
read = job.read(sf.source(ticks, schema={"n": sf.Int64}))
read.write(sf.FileSink("out", format="ndjson"))
read.write(sf.ConsoleSink())

if __name__ == "__main__":
    print("stopped", job.run().stopped)
"""


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        (["-m", "streamflow", "run", "ticks.py"], signal.SIGINT, 130),
        (["-m", "streamflow", "run", "ticks.py"], signal.SIGTERM, 0),
        (["ticks.py"], signal.SIGINT, 0),
        (["ticks.py"], signal.SIGTERM, 0),
    ],
)
def test_a_signal_commits_what_was_read(
    command: list[str], number: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "ticks.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # Not communicate(): it does not see what readline has read ahead.
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            shown = [process.stdout.readline() for _ in range(5)]
            process.send_signal(number)
            out, err = process.stdout.read(), process.stderr.read()
            process.wait()
        finally:
            late.cancel()
            process.kill()
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "stopping: what has been read is written first, unless that takes long; a second signal" in err
    written = [
        int(line.strip(b'{"n:}')) for line in b"".join(visible(tmp_path / "out").values()).splitlines()
    ]
    assert written == list(range(len(written)))
    printed = {int(word) for word in "".join([*shown, out]).split() if word.isdigit()}
    assert printed
    assert printed == set(written)
    if command == ["ticks.py"]:
        assert "stopped True" in out


# Watching.


def test_metrics_are_scraped_while_the_job_runs() -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def scrape() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as response:
            lines = response.read().decode().splitlines()
        return {
            name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")
        }

    async def scenario() -> dict[str, float]:
        arrived, end = asyncio.Event(), asyncio.Event()

        async def watch(rows: list[Any]) -> None:
            arrived.set()

        job = sf.Job("scraped")
        read = job.read(sf.source(ticks(25, then=end), schema=TICKS), event_time=sf.epoch("ts"))
        windows = read.key_by("k").window(sf.tumbling("10s")).aggregate(n=sf.count())
        windows.write(sf.sink(watch))
        handle = await job.start(metrics_port=port)
        await asyncio.wait_for(arrived.wait(), PATIENCE)
        scraped = await asyncio.to_thread(scrape)
        end.set()
        await handle.wait()
        return scraped

    scraped = asyncio.run(scenario())
    labels = 'job="scraped",operator="{}",subtask="0"'
    assert scraped[f"streamflow_records_in_total{{{labels.format('read-1')}}}"] == 25
    watermark = scraped[f"streamflow_watermark_timestamp_seconds{{{labels.format('window-1')}}}"]
    assert watermark == pytest.approx(23.999999)
    assert f"streamflow_late_records_dropped_total{{{labels.format('window-1')}}}" in scraped
    with pytest.raises(urllib.error.URLError):
        scrape()


def test_progress_is_told_and_ends_with_the_final_figures() -> None:
    told: list[sf.JobStatus] = []
    job = sf.Job("told")
    job.read(sf.MemorySource([{"n": n} for n in range(10)])).collect()
    job.run(progress=told.append)
    assert told[-1].state == "finished"
    assert (told[-1].records_read, told[-1].records_written) == (10, 10)


@pytest.mark.parametrize("progress", [False, True, "1s"])
def test_what_cannot_be_told_progress_is_refused_before_the_job_begins(progress: Any) -> None:
    job = sf.Job("untold")
    out = job.read(sf.MemorySource([{"n": 1}])).collect()
    with pytest.raises(sf.ConfigError, match="progress is"):
        job.run(progress=progress)
    job.run()
    assert out.rows() == [{"n": 1}]


# Running.


def test_run_inside_a_running_loop_is_refused_with_what_to_write_instead() -> None:
    job = sf.Job("nested")
    out = job.read(sf.MemorySource([{"n": 1}])).collect()

    async def nested() -> None:
        with pytest.raises(sf.ConfigError, match=r"await job\.run_async"):
            job.run()
        await job.run_async()

    asyncio.run(nested())
    assert out.rows() == [{"n": 1}]


@pytest.mark.parametrize("mode", MODES)
def test_a_job_that_is_run_twice_gives_the_same_twice(mode: str) -> None:
    job = sf.Job("twice")
    rows = [{"k": "ab"[n % 2], "ts": n, "n": n} for n in range(100)]
    read = job.read(sf.MemorySource(rows, batch_rows=7), event_time=sf.epoch("ts"))
    out = read.key_by("k").window(sf.tumbling("10ms")).aggregate(n=sf.count(), total=sf.sum("n")).collect()
    first = job.run(mode=mode)
    once = out.frame()
    second = job.run(mode=mode, parallelism=2)
    assert out.frame().sort(pl.all()).equals(once.sort(pl.all()))
    assert first.records_in["read-1"] == second.records_in["read-1"] == 100


def test_a_second_run_does_not_write_over_the_first_ones_files(tmp_path: Path) -> None:
    job = sf.Job("again")
    job.read(sf.MemorySource([{"n": 1}])).write(sf.FileSink(tmp_path / "out", format="ndjson"))
    job.run()
    before = visible(tmp_path / "out")
    assert list(before.values()) == [b'{"n":1}\n']
    with pytest.raises(sf.SinkError, match="already holds something"):
        job.run()
    assert visible(tmp_path / "out") == before


def test_two_jobs_run_side_by_side() -> None:
    async def both() -> list[list[Any]]:
        jobs, outs = [], []
        for name, rows in (("one", 30), ("two", 50)):
            job = sf.Job(name)
            read = job.read(sf.source(ticks(rows), schema=TICKS, bounded=True), event_time=sf.epoch("ts"))
            outs.append(read.key_by("k").aggregate(n=sf.count()).collect())
            jobs.append(job)
        await asyncio.gather(*(job.run_async(mode="batch", parallelism=2) for job in jobs))
        return [sorted((row["k"], row["n"]) for row in out.rows()) for out in outs]

    assert asyncio.run(both()) == [[("a", 15), ("b", 15)], [("a", 25), ("b", 25)]]
