"""The job that is broken on purpose: its input, the job as a user would write it, and what it has to write.

Each event passes unchanged into one output, so that a lost or a repeated one shows by its number; the others hold what
has been counted by key: in tumbling and sliding windows (whose panes are event time's state) and one by one
(a KeyedProcess with a value per key).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import streamflow as sf
from benchmarks.draws import uniform
from reliability.pacing import Pace, Paced
from streamflow import col

EVENT = {"id": sf.Int64, "ts": sf.Int64, "key": sf.String, "value": sf.Int64}
FIRST_MS = 1_700_000_000_000
EVENTS_PER_MS = 2
DISORDER_MS = 1_000
TUMBLING_MS = 2_000
SLIDING_MS = 6_000
KEYS = 40
EVERY = 25
SPLITS = 4
FIRST_OPERATOR = "select-1"
"""The operator that every record comes to first."""
OUTPUTS = ("events", "tumbling", "sliding", "milestones")


class Milestones(sf.KeyedProcess):
    """Says, key by key, each time that so many more events have come; which events they were does not matter."""

    seen = sf.ValueState(int, default=0)

    def on_event(self, event: dict[str, Any], ctx: Any) -> None:
        n = self.seen.value() + 1
        self.seen.update(n)
        if n % EVERY == 0:
            ctx.emit({"key": ctx.key, "n": n})


@dataclass(frozen=True)
class Place:
    """The folders of one job under fire."""

    root: Path

    @property
    def input(self) -> Path:
        return self.root / "input"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def published(self) -> list[int]:
        """The numbers of the checkpoints there are."""
        return sorted(int(path.name) for path in self.checkpoints.glob("*/manifests/[0-9]*"))


def events(count: int, seed: int) -> pl.DataFrame:
    """Events in order of arrival; one is up to a second older than its arrival."""
    draws = {name: uniform(0, count, seed=seed, stream=i) for i, name in enumerate(("age", "key", "value"))}
    arrival = FIRST_MS + DISORDER_MS + pl.int_range(count) // EVENTS_PER_MS
    return pl.DataFrame(draws).select(
        id=pl.int_range(count),
        ts=arrival - (pl.col("age") * DISORDER_MS).cast(pl.Int64),
        key=pl.format("key-{}", (pl.col("key") ** 2 * KEYS).cast(pl.Int64)),
        value=(pl.col("value") * 1_000).cast(pl.Int64),
    )


def write_input(place: Place, frame: pl.DataFrame) -> None:
    """The events over several files that are read side by side."""
    place.input.mkdir(parents=True)
    place.output.mkdir(parents=True, exist_ok=True)
    for split in range(SPLITS):
        frame.gather_every(SPLITS, split).write_ndjson(place.input / f"events-{split}.ndjson")


def job_of(place: Place, pause: float = 0.0) -> sf.Job:
    """The job; `pause` slows its reading down."""
    job = sf.Job("under-fire")
    source = Paced(sf.FileSource(str(place.input / "*.ndjson"), schema=EVENT), Pace(pause))
    read = job.read(
        source, event_time=sf.epoch("ts", unit="ms"), watermark=sf.bounded_disorder(f"{DISORDER_MS}ms")
    )
    read.select("id").write(sf.FileSink(str(place.output / "events")))
    keyed = read.key_by("key")
    totals = {"n": sf.count(), "total": sf.sum("value")}
    tumbling = keyed.window(sf.tumbling(f"{TUMBLING_MS}ms")).aggregate(**totals)
    tumbling.select(*_columns()).write(sf.FileSink(str(place.output / "tumbling")))
    sliding = keyed.window(sf.sliding(f"{SLIDING_MS}ms", every=f"{TUMBLING_MS}ms")).aggregate(**totals)
    sliding.select(*_columns()).write(sf.FileSink(str(place.output / "sliding"), format="ndjson"))
    milestones = keyed.process(Milestones(), schema={"key": sf.String, "n": sf.Int64})
    milestones.write(sf.FileSink(str(place.output / "milestones")))
    return job


def _columns() -> list[pl.Expr]:
    start = col("window_start").dt.timestamp("ms").alias("start")
    return [col("key"), start, col("n").cast(pl.Int64), col("total")]


def model(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The expected content of each output, computed in one go."""
    every = TUMBLING_MS
    one = frame.with_columns(start=pl.col("ts") // every * every)
    many = one.with_columns(
        start=pl.concat_list(pl.col("start") - back for back in range(0, SLIDING_MS, every))
    ).explode("start")
    counted = frame.group_by("key").agg(n=pl.len().cast(pl.Int64))
    return {
        "events": frame.select("id"),
        "tumbling": _totals(one),
        "sliding": _totals(many),
        "milestones": counted.select(
            "key", n=pl.int_ranges(EVERY, pl.col("n") + 1, EVERY, dtype=pl.Int64)
        ).explode("n", empty_as_null=False),
    }


def _totals(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("key", "start").agg(n=pl.len().cast(pl.Int64), total=pl.col("value").sum())
