"""`python -m benchmarks.patterns`: a two-step pattern with `within`, where one event in a hundred can begin a match.

Through a whole job, in streaming mode on one core: events over 10,000 keys by Zipf's law, read from Parquet, up to 5 s
out of order. `low` is the hundredth of the events with the smallest values, `high` the hundredth with the largest;
`likely`: half of all events could be the second; `strict`: `next` in place of `then`, for which every event counts.
Then the operator alone with batches of ten events and a watermark behind each: milliseconds of the clock.

Events a second are those of CPU time, all threads included, so that what else the machine does counts less.
"""

import argparse
import time
from collections.abc import Iterator
from statistics import median, quantiles

import polars as pl

import streamflow as sf
from benchmarks import data
from benchmarks.figures import Figure, print_each
from benchmarks.frame_store import OUT, SECOND, built, records
from benchmarks.workloads.jobs import EVENT
from streamflow import col
from streamflow.operators.patterns.match import MatchSpec

FIGURE = 150_000
"""Events a second."""


def rate(events: int, kind: str) -> tuple[float, int]:
    """Events a second of CPU time through a whole job, and the number of matches."""
    path = data.events_parquet(events)
    values = pl.read_parquet(path, columns=["value"])["value"]
    low, middle, high = (values.quantile(share) for share in (0.01, 0.5, 0.99))
    assert low is not None
    begins, ends = col("value") < low, col("value") > (middle if kind == "likely" else high)
    first = sf.pattern("low", begins)
    sought = first.next("high", ends) if kind == "strict" else first.then("high", ends)
    job = sf.Job("patterns")
    source = sf.FileSource(str(path), schema=EVENT)
    read = job.read(source, event_time=sf.epoch("ts", unit="ms"), watermark=sf.bounded_disorder("5s"))
    matches = read.key_by("key").match(sought.within("1m"))
    counted = matches.window(sf.tumbling("1d")).aggregate(n=sf.count()).collect()
    begin = time.process_time()
    job.run(mode="streaming")
    spent = time.process_time() - begin
    return events / spent, sum(row["n"] for row in counted.rows())


def batches(count: int) -> list[float]:
    """Milliseconds of a batch of ten events and a watermark, beside 100,000 partial matches."""
    sought = sf.pattern("low", col("value") >= 0).then("high", col("value") < 0).within("1h")
    operator = built(MatchSpec(("key",), sought, ("key", "value")), 1 << 30)
    for first in range(0, 100_000, 10_000):
        operator.process_batch(records(range(first, first + 10_000), SECOND), 0, OUT)
        operator.on_watermark(SECOND - 1, OUT)
    operator.on_watermark(SECOND, OUT)
    while operator.unfinished:
        operator.on_watermark(SECOND, OUT)
    spent: list[float] = []
    for number in range(count):
        now = 2 * SECOND + number * 1_000
        batch = records([(number * 10 + each) * 7_919 % 100_000 for each in range(10)], now)
        begin = time.perf_counter()
        operator.process_batch(batch, 0, OUT)
        operator.on_watermark(now, OUT)
        spent.append(1_000 * (time.perf_counter() - begin))
    return spent


def patterns(events: int, count: int) -> Iterator[Figure]:
    """All figures of this file, of so many events and so many batches."""
    for kind in ("rare", "likely", "strict"):
        rate(events // 10, kind)
        best, matches = max(rate(events, kind) for _ in range(3))
        name = f"two-step pattern, {kind}: {matches:,} matches"
        yield Figure(name, best, "events/s", "≥", FIGURE if kind == "rare" else None)
    spent = batches(count)
    yield Figure("ten events beside 100,000 partial matches, median", median(spent), "ms")
    yield Figure("ten events beside 100,000 partial matches, p99", quantiles(spent, n=100)[98], "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=500)
    chosen = parser.parse_args()
    print_each(patterns(chosen.events, chosen.batches))


if __name__ == "__main__":
    main()
