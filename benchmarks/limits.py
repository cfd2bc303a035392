"""The figures of docs/limits.md: seconds, peak memory and open files of jobs that are large in one way.

`python -m benchmarks.limits CASE SIZE [SETTING=VALUE …]` prints one JSON line; the cases are those below. Each needs a
process of its own, since memory is the peak of the process.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import polars as pl

import streamflow as sf
from benchmarks.measure import peak_mb

AT = sf.epoch("at", unit="ms")


class Count(sf.KeyedProcess):
    """The number of events of each key."""

    n = sf.ValueState(int, default=0)
    output: ClassVar[dict[str, Any]] = {"key": sf.Int64, "n": sf.Int64}

    def on_event(self, event: dict[str, Any], ctx: sf.ProcessContext) -> None:
        self.n.update(self.n.value() + 1)
        if self.n.value() == 0:
            ctx.emit({"key": ctx.key, "n": 0})


class Pass(sf.KeyedProcess):
    """Emits each event again, and counts those of each key."""

    n = sf.ValueState(int, default=0)
    output: ClassVar[dict[str, Any]] = {"key": sf.Int64, "other": sf.Int64}

    def on_event(self, event: dict[str, Any], ctx: sf.ProcessContext) -> None:
        self.n.update(self.n.value() + 1)
        ctx.emit({"key": event["key"], "other": event["other"]})


class Keep(sf.KeyedProcess):
    """Emits each event again, and keeps half a kilobyte for its key."""

    text = sf.ValueState(str)
    output: ClassVar[dict[str, Any]] = {"key": sf.Int64, "other": sf.Int64}

    def on_event(self, event: dict[str, Any], ctx: sf.ProcessContext) -> None:
        self.text.update("x" * 500)
        ctx.emit({"key": event["key"], "other": event["other"]})


def splits(size: int, folder: Path) -> sf.Job:
    """One subtask that reads `size` splits of ten rows."""
    job = sf.Job("splits")
    source = sf.DataGen({"n": pl.col("index")}, rows=10 * size, splits=size)
    job.read(source).filter(pl.col("n") < 0).write(sf.FileSink(folder / "out", format="ndjson"))
    return job


def files(size: int, folder: Path) -> sf.Job:
    """One subtask that reads `size` files of ten lines."""
    (folder / "in").mkdir()
    for number in range(size):
        lines = (f'{{"n":{number},"at":{1_000 * row}}}\n' for row in range(10))
        (folder / "in" / f"{number:07}.ndjson").write_text("".join(lines))
    job = sf.Job("files")
    source = sf.FileSource(folder / "in", schema={"n": sf.Int64, "at": sf.Int64})
    counts = job.read(source, event_time=AT).key_by("at").window(sf.tumbling("1m")).count()
    counts.write(sf.FileSink(folder / "out", format="ndjson"))
    return job


def partitions(size: int, folder: Path) -> sf.Job:
    """A sink that writes `size` folders in one epoch."""
    job = sf.Job("partitions")
    read = job.read(sf.DataGen({"n": pl.col("index"), "of": pl.col("index") % size}, rows=100 * size))
    read.write(sf.FileSink(folder / "out", partition_by="of"))
    return job


def subtasks(size: int, folder: Path) -> sf.Job:
    """Four processes behind one another, each in `parallelism` subtasks, over `size` keys."""
    return _in_a_row(Pass, size, folder)


def databases(size: int, folder: Path) -> sf.Job:
    """The same with half a kilobyte of state for each key in each process."""
    return _in_a_row(Keep, size, folder)


def _in_a_row(process: type[sf.KeyedProcess], size: int, folder: Path) -> sf.Job:
    make = {"key": pl.col("index") % size, "other": pl.col("index") * 7 % size}
    job = sf.Job("subtasks")
    stream: sf.Stream = job.read(sf.DataGen(make, rows=100_000, splits=4))
    for number in range(4):
        stream = stream.key_by("other" if number % 2 else "key").process(process)
    stream.write(sf.FileSink(folder / "out"))
    return job


def window_keys(size: int, folder: Path) -> sf.Job:
    """`size` keys in one window that stays open until the input's end."""
    job = sf.Job("keys")
    read = job.read(
        sf.DataGen({"key": pl.col("index"), "at": pl.col("index") % 1_000}, rows=size), event_time=AT
    )
    counts = read.key_by("key").window(sf.tumbling("1h")).aggregate(n=sf.count(), last=sf.max("at"))
    counts.write(sf.FileSink(folder / "out"))
    return job


def process_keys(size: int, folder: Path) -> sf.Job:
    """`size` keys of a process with one number of state each."""
    job = sf.Job("process")
    read = job.read(sf.DataGen({"key": pl.col("index")}, rows=size))
    read.key_by("key").process(Count).write(sf.FileSink(folder / "out"))
    return job


CASES: dict[str, Callable[[int, Path], sf.Job]] = {
    case.__name__: case
    for case in (splits, files, partitions, subtasks, databases, window_keys, process_keys)
}


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def measured(case: str, size: int, settings: dict[str, str], folder: Path) -> dict[str, Any]:
    """Runs one case; seconds from the start of the job, and the largest figures that were seen."""
    job = CASES[case](size, folder)
    before = peak_mb()
    began = time.perf_counter()
    handle = await job.start(mode="streaming", checkpoint_dir=folder / "checkpoints", **settings)
    done = asyncio.create_task(handle.wait())
    open_files, started, pause, last = 0, 0.0, 0.0, time.perf_counter()
    while not done.done():
        await asyncio.sleep(0.02)
        now = time.perf_counter()
        pause, last = max(pause, now - last - 0.02), now
        open_files = max(open_files, _open_files())
        started = started or (now - began if handle.status().state == "running" else 0.0)
    result = await done
    seconds = time.perf_counter() - began
    return {
        "seconds": round(seconds, 2),
        "until_running": round(started, 2),
        "records": result.records_in.get("read-1"),
        "peak_mb": round(peak_mb()),
        "peak_mb_before": round(before),
        "open_files": open_files,
        "longest_pause_of_the_loop": round(pause, 3),
    }


def main() -> None:
    """Measures what the command line names."""
    case, size, *given = sys.argv[1:]
    settings = dict(each.split("=", 1) for each in given)
    with TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measured(case, int(size), settings, Path(folder)))))


if __name__ == "__main__":
    main()
