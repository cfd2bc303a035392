"""An aggregate of one's own: the longest run of flights in a row that left late, per airport and day.

An `Aggregator` says how to begin, add a value, merge two accumulators and give the result. Records of a group come in
no promised order, so this one keeps (departure, late) pairs and puts them in order at the end.

    python examples/own_aggregator.py
    streamflow run examples/own_aggregator.py --mode streaming
"""

from datetime import datetime
from itertools import groupby
from typing import Any

import polars as pl

import streamflow as sf
from streamflow import col
from streamflow.demo.build_data import DATA

LATE_MINUTES = 15


class LongestLateRun(sf.Aggregator):
    """How many flights in a row left late, at most."""

    def create(self) -> list[tuple[datetime, str, bool]]:
        return []

    def add(self, accumulator: Any, value: dict[str, Any]) -> Any:
        accumulator.append((value["departed_at"], value["flight"], value["dep_delay"] >= LATE_MINUTES))
        return accumulator

    def merge(self, left: Any, right: Any) -> Any:
        return left + right

    def result(self, accumulator: Any) -> int:
        late = [late for _, _, late in sorted(accumulator)]
        return max((len(list(run)) for is_late, run in groupby(late) if is_late), default=0)


job = sf.Job("late-runs")

runs = (
    job.read(
        sf.FileSource(str(DATA)),
        event_time=col("departed_at").fill_null(col("scheduled")),
        watermark=sf.bounded_disorder("24h"),
    )
    .filter(col("departed_at").is_not_null())
    .key_by("origin")
    .window(sf.tumbling("1d"))
    .aggregate(longest=LongestLateRun(pl.struct("departed_at", "flight", "dep_delay")))
)
out = runs.collect()

if __name__ == "__main__":
    job.run()
    print(out.frame().sort("longest", descending=True).head(10))
