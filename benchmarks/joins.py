"""Joins of two million-event streams: speeds, beside Polars over the finished data, latency and memory.

`python -m benchmarks.joins` runs in a process of its own and prints JSON; `growth` says how the memory of an interval
join follows the length of its input.
"""

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import polars as pl

import streamflow as sf
from benchmarks.figures import Figure
from benchmarks.joins_beside_flink import joins_beside_flink
from benchmarks.program import run_fresh

EVENTS = 1_000_000
MINUTE = 60_000_000
KEYS = 10_000
TABLE_KEYS = 100_000
RATE = 20_000
SECONDS = 20


def joins() -> list[Figure]:
    """All figures of this file, each part from a process of its own."""

    def said(*arguments: str) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.joins", *arguments]
        found: dict[str, float] = json.loads(run_fresh("joins", command).splitlines()[-1])
        return found

    interval, latency = said("interval"), said("latency")
    short, long = said("memory", "5"), said("memory", "50")
    return [
        Figure("interval join, ± 1 min: events of both sides", interval["rate"], "/s", "≥", 500_000),
        Figure("the same / Polars over the finished data", interval["of_polars"], "×", "≥", 0.2),
        Figure(
            "interval join, 20,000 events/s a side in batches of 100: p99", latency["p99"], "ms", "≤", 100
        ),
        Figure(
            "interval join, memory of 10 × longer input / short one",
            long["peak"] / short["peak"],
            "×",
            "≤",
            1.2,
        ),
        Figure("as of, a table of 100,000 keys: events", said("asof")["rate"], "/s", "≥", 1_000_000),
        Figure("regular join of two changing streams: changes", said("regular")["rate"], "/s", "≥", 200_000),
        Figure("window join, 2 min: events of both sides", said("window")["rate"], "/s"),
        *joins_beside_flink(),
    ]


def events(side: int, count: int, *, minutes: float = 2_000, keys: int = KEYS) -> pl.DataFrame:
    """Events in order of time, spread evenly over so many minutes, of random keys."""
    at = pl.int_range(count, dtype=pl.UInt64)
    return pl.select(
        key=(at.hash(side) % keys).cast(pl.Int64),
        value=at.cast(pl.Int64),
        time=(at.cast(pl.Int64) * int(minutes * MINUTE) // count).cast(pl.Datetime("us", "UTC")),
    )


def read(job: sf.Job, frame: pl.DataFrame, batch_rows: int = 65_536) -> sf.Stream:
    """A stream of a frame's rows."""
    source = sf.MemorySource(frame, batch_rows=batch_rows)
    return job.read(source, event_time="time", watermark="1s")


def measured(
    joined: Callable[[sf.Stream, sf.Stream], sf.Stream], left: pl.DataFrame, right: pl.DataFrame
) -> tuple[float, sf.JobResult]:
    """Seconds of a streaming job, and its result."""
    job = sf.Job("joins")
    joined(read(job, left), read(job, right)).map_batches(lambda frame: frame.head(0)).collect()
    began = time.perf_counter()
    result = job.run(mode="streaming")
    return time.perf_counter() - began, result


def interval() -> dict[str, float]:
    """Seconds of ours, and of Polars with the same buckets of time."""
    left, right = (events(side, EVENTS) for side in (1, 2))
    taken, _ = measured(lambda a, b: a.join(b, on="key", within=("-1m", "1m")), left, right)
    began, width = time.perf_counter(), 2 * MINUTE + 1
    time_of = pl.col("time").to_physical()
    copies = [left.lazy().with_columns(bucket=(time_of - MINUTE) // width + step) for step in (0, 1)]
    both = pl.concat(copies).join(right.lazy().with_columns(bucket=time_of // width), on=["key", "bucket"])
    distance = pl.col("time_right").to_physical() - time_of
    both.filter(distance.abs() <= MINUTE).collect()
    polars = time.perf_counter() - began
    return {"rate": 2 * EVENTS / taken, "of_polars": polars / taken}


def latency() -> dict[str, float]:
    """From when the later of two records was due to when their pair came, in milliseconds."""
    waited: list[float] = []
    began = 0.0

    async def records(side: int) -> AsyncIterator[list[dict[str, Any]]]:
        nonlocal began
        began = began or time.perf_counter() + 1
        for number in range(0, RATE * SECONDS, 100):
            late = began + number / RATE - time.perf_counter()
            if late > 0:
                await asyncio.sleep(late)
            for each in range(number, number + 100):
                yield {"key": (each * 7919 + side) % 1_000_003 // 10, "due": each / RATE}  # type: ignore[misc]

    def out(rows: pl.DataFrame) -> pl.DataFrame:
        now = time.perf_counter() - began
        left, right = rows["due"], rows["due_right"]
        # Without a query, which would cost as much as the join's.
        waited.extend(now - left.zip_with(left > right, right))
        return rows.clear()

    job = sf.Job("latency")
    schema = {"key": sf.Int64, "due": sf.Float64}
    at = (sf.col("due") * 1_000_000).cast(sf.Int64).cast(sf.Datetime("us", "UTC"))
    streams = [
        job.read(
            sf.source(lambda side=side: records(side), schema=schema, bounded=True),
            event_time=at,
            watermark="100ms",
        )
        for side in (0, 1)
    ]
    streams[0].join(streams[1], on="key", within=("-1m", "1m")).map_batches(out).collect()
    job.run(mode="streaming")
    waited.sort()
    return {"p50": 1000 * waited[len(waited) // 2], "p99": 1000 * waited[len(waited) * 99 // 100]}


def memory(length: int) -> dict[str, float]:
    """MiB at most that a job adds to its process, of an input of so many hours of event time, 300,000 events an hour
    and side.

    Another process writes the input: what making it leaves behind in the allocator would be counted here. In less than
    five hours what may wait in channels (262,144 rows in each) is not there.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_fresh("joins", [sys.executable, "-m", "benchmarks.joins", "write", str(length), folder])
        job, before = sf.Job("joins"), _peak()
        left, right = (
            job.read(sf.FileSource(f"{folder}/{side}.parquet"), event_time="time", watermark="1s")
            for side in (1, 2)
        )
        left.join(right, on="key", within=("-1m", "1m")).map_batches(pl.DataFrame.clear).collect()
        job.run(mode="streaming")
    return {"peak": _peak() - before}


def write(length: int, folder: str) -> dict[str, float]:
    """Writes the input of `memory`."""
    for side in (1, 2):
        frame = events(side, 300_000 * length, minutes=60 * length)
        frame.write_parquet(f"{folder}/{side}.parquet", row_group_size=65_536)
    return {}


def _peak() -> float:
    """The largest MiB of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def asof() -> dict[str, float]:
    """Events as of their time, beside a table whose keys change ten times."""
    left, right = events(1, EVENTS, keys=TABLE_KEYS), events(2, EVENTS // 10, keys=TABLE_KEYS)
    return {"rate": EVENTS / measured(lambda a, b: a.join_asof(b, on="key"), left, right)[0]}


def regular() -> dict[str, float]:
    """Changes of two tables, joined."""
    left, right = (events(side, EVENTS // 2, keys=TABLE_KEYS) for side in (1, 2))

    def joined(one: sf.Stream, other: sf.Stream) -> sf.Stream:
        return one.to_table("key").changes().join(other.to_table("key").changes(), on="key")

    taken, result = measured(joined, left, right)
    return {"rate": sum(each.records_out for each in result.operators if each.kind == "table") / taken}


def window() -> dict[str, float]:
    """Rows of two-minute windows."""
    left, right = (events(side, EVENTS) for side in (1, 2))
    taken, _ = measured(lambda a, b: a.join(b, on="key", window=sf.tumbling("2m")), left, right)
    return {"rate": 2 * EVENTS / taken}


def main(part: str, *arguments: str) -> None:
    """Prints the figures of one part."""
    if part == "memory":
        said = memory(int(arguments[0]))
    elif part == "write":
        said = write(int(arguments[0]), arguments[1])
    else:
        said = {"interval": interval, "latency": latency, "asof": asof, "regular": regular, "window": window}[
            part
        ]()
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
