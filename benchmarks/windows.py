"""`python -m benchmarks.windows`: W1's events in windows of other kinds, as a ratio to tumbling windows.

Each pair runs in turn, in one process: the times are those of the processor, the reading of the file included.
`--parquet` reads the faster file, over which the windows are a larger part of the work.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import polars as pl

import streamflow as sf
from benchmarks.data import events_ndjson, events_parquet
from benchmarks.figures import Figure, print_each
from benchmarks.per_key import Nowhere
from benchmarks.workloads.jobs import read_events

Cut = Callable[[sf.KeyedStream], sf.WindowedStream]


class Tens(sf.WindowAssigner):
    """Windows of ten seconds, as an assigner of one's own."""

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        starts = times.dt.truncate("10s")
        return starts, starts.dt.offset_by("10s")


EARLY = sf.after_watermark(early=sf.after_processing_time("1s"), late=sf.after_count(1))
TEN: Cut = lambda keyed: keyed.window(sf.tumbling("10s"))  # noqa: E731
PAIRS: dict[str, tuple[Cut, Cut, float | None]] = {
    "days of Berlin / tumbling(1d)": (
        lambda keyed: keyed.window(sf.calendar("1d", tz="Europe/Berlin")),
        lambda keyed: keyed.window(sf.tumbling("1d")),
        0.8,
    ),
    "cumulative(60s, step=10s) / sliding(60s, every=10s)": (
        lambda keyed: keyed.window(sf.cumulative("60s", step="10s")),
        lambda keyed: keyed.window(sf.sliding("60s", every="10s")),
        None,
    ),
    "early by the second, late by the batch / tumbling(10s)": (
        lambda keyed: keyed.window(sf.tumbling("10s"), trigger=EARLY, allowed_lateness="10s"),
        TEN,
        0.7,
    ),
    "repeatedly(after_count(100)) / tumbling(10s)": (
        lambda keyed: keyed.window(sf.tumbling("10s"), trigger=sf.repeatedly(sf.after_count(100))),
        TEN,
        None,
    ),
    "an own assigner / tumbling(10s)": (lambda keyed: keyed.window(Tens()), TEN, None),
    "count_window(10) / tumbling(10s)": (lambda keyed: keyed.window(sf.count_window(10)), TEN, None),
}


def run(path: Path, cut: Cut) -> float:
    """Processor seconds of a job."""
    job = sf.Job("windows")
    windows = cut(read_events(job, path).key_by("key"))
    windows.aggregate(n=sf.count(), total=sf.sum("value")).write(Nowhere())
    begin = time.process_time()
    job.run(mode="streaming")
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parquet", action="store_true")
    options = parser.parse_args()
    path = (events_parquet if options.parquet else events_ndjson)(options.events)
    print_each(windows(path, options.events, options.rounds))


def windows(path: Path, events: int, rounds: int) -> Iterator[Figure]:
    """The speed of each kind as a part of the others', and by itself."""
    for name, (cut, other, least) in PAIRS.items():
        run(path, cut)
        pairs = [(run(path, cut), run(path, other)) for _ in range(rounds)]
        yield Figure(name, median(its / mine for mine, its in pairs), "×", "≥", least)
        yield Figure(f"{name}: events", events / median(mine for mine, _ in pairs), "/s")


if __name__ == "__main__":
    main()
