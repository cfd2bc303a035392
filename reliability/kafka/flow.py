"""The job that is broken on purpose, from topic to topics: its input, the job as a user would write it, and its model.

Each event passes unchanged into one topic, in its key's order, so that one that is lost, repeated or overtaken shows by
its number. The other topic has windows by key, and each key's windows are numbered by a KeyedProcess: its state is the
sequence that must go on without a gap through every restart.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

import streamflow as sf
from reliability.flow import DISORDER_MS, EVENT, Place
from reliability.pacing import Pace, Paced
from streamflow import col
from streamflow.operators.connectors.kafka.clients.port import KafkaClient
from streamflow.operators.connectors.kafka.sink import KafkaSink
from streamflow.operators.connectors.kafka.source import KafkaSource

PARTITIONS = 4
WINDOW_MS = 1_000
NUMBERED = {"key": sf.String, "n": sf.Int64, "start": sf.Int64, "count": sf.Int64, "total": sf.Int64}
PASSED = {"id": sf.Int64, "key": sf.String, "value": sf.Int64}
OUTPUTS = {"events": PASSED, "windows": NUMBERED}
ORDER = {"events": "id", "windows": "n"}
"""The column that rises within a key."""


class Numbered(sf.KeyedProcess):
    """Numbers each key's windows from 1, as they come."""

    seen = sf.ValueState(int, default=0)

    def on_event(self, event: dict[str, Any], ctx: Any) -> None:
        n = self.seen.value() + 1
        self.seen.update(n)
        ctx.emit({**event, "n": n})


@dataclass(frozen=True)
class Site(Place):
    """A job under fire: its folder, its cluster, and the name that its topics begin with."""

    bootstrap: str
    name: str

    @property
    def source(self) -> str:
        return f"{self.name}-input"

    def target(self, output: str) -> str:
        return f"{self.name}-{output}"


def job_of(site: Site, pace: Pace | None = None, client: str | KafkaClient = "aiokafka") -> sf.Job:
    """The job; it reads up to where the topic ends when it starts for the first time. `client` is the sinks'."""
    job = sf.Job(site.name)
    source = KafkaSource(site.source, site.bootstrap, schema=EVENT, end="latest", group_id=site.name)
    read = job.read(
        Paced(source, pace or Pace()),
        event_time=sf.epoch("ts", unit="ms"),
        watermark=sf.bounded_disorder(f"{DISORDER_MS}ms"),
    )
    read.select("id", "key", "value").write(_sink(site, "events", client))
    counted = (
        read.key_by("key")
        .window(sf.tumbling(f"{WINDOW_MS}ms"))
        .aggregate(count=sf.count(), total=sf.sum("value"))
    )
    start = col("window_start").dt.timestamp("ms").alias("start")
    windows = counted.select(col("key"), start, col("count").cast(pl.Int64), col("total"))
    numbered = windows.key_by("key").process(Numbered(), schema=NUMBERED).select(*NUMBERED)
    numbered.write(_sink(site, "windows", client))
    return job


def _sink(site: Site, output: str, client: str | KafkaClient) -> KafkaSink:
    return KafkaSink(
        site.target(output), site.bootstrap, key="key", delivery="exactly_once", client=client, patience="1m"
    )


def model(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The expected content of each topic, computed in one go."""
    windows = (
        frame.with_columns(start=pl.col("ts") // WINDOW_MS * WINDOW_MS)
        .group_by("key", "start")
        .agg(count=pl.len().cast(pl.Int64), total=pl.col("value").sum())
        .sort("key", "start")
        .with_columns(n=pl.int_range(1, pl.len() + 1).over("key"))
    )
    return {"events": frame.select(*PASSED), "windows": windows.select(*NUMBERED)}
