"""Kappa: new code replays the topic beside the old, catches up, and readers are switched over while flights come in.

Version 1 averages delays by airport and hour. In version 2 early departures do not make up for late ones any more. It
has a name, checkpoints and an output topic of its own and begins where the topic begins. Once it has caught up, version
1 is stopped, and a record in a compacted topic tells readers to go on with version 2, behind version 1's last hour.

    make kafka
    python examples/kafka/kappa_switch.py 127.0.0.1:9092

Each run has a folder of its own, and topics named like it.
"""

import asyncio
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

import streamflow as sf
from streamflow import col
from streamflow.demo.build_data import DATA
from streamflow.runners.local import LocalJob

KAFKA = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
FOLDER = Path(tempfile.mkdtemp(prefix="kappa-"))
FLIGHTS, POINTER = f"{FOLDER.name}-flights", f"{FOLDER.name}-pointer"
DELAYS = {version: f"{FOLDER.name}-delays-v{version}" for version in (1, 2)}
UTC_TIME = sf.Datetime("us", "UTC")
FLIGHT = {"scheduled": UTC_TIME, "origin": sf.String, "dep_delay": sf.Int32}
HOUR = {"origin": sf.String, "window_end": UTC_TIME, "flights": sf.Int64, "mean_delay": sf.Float64}
SWITCH = {"topic": sf.String, "behind": UTC_TIME}
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


async def run_live(version: int) -> LocalJob:
    """The job in one version of its code, from the beginning of the topic on."""
    job = sf.Job(DELAYS[version])
    flights = job.read(sf.KafkaSource(FLIGHTS, KAFKA, schema=FLIGHT), event_time="scheduled")
    if version == 2:
        flights = flights.with_columns(dep_delay=col("dep_delay").clip(0))
    hours = flights.key_by("origin").window(sf.tumbling("1h"))
    delays = hours.aggregate(flights=sf.count(), mean_delay=sf.mean("dep_delay"))
    delays.write(sf.KafkaSink(DELAYS[version], KAFKA, key="origin", create={"partitions": 2}))
    place = FOLDER / f"checkpoints-v{version}"
    return await job.start(mode="streaming", checkpoint_dir=place, checkpoint_interval="200ms")


async def point_to(version: int, behind: datetime = BEGINNING) -> None:
    """Tell readers, by one record in a transaction. Its key is the topic: compaction keeps each switch, once."""
    job = sf.Job(POINTER)
    record = sf.MemorySource([{"topic": DELAYS[version], "behind": behind}], schema=SWITCH)
    compacted = {"partitions": 1, "config": {"cleanup.policy": "compact"}}
    job.read(record).write(sf.KafkaSink(POINTER, KAFKA, key="topic", create=compacted))
    await job.run_async()


class Reader:
    """Reads the delays as one series, from the topic that the pointer names."""

    def __init__(self) -> None:
        self.topic, self.behind = "", BEGINNING
        self.hours: list[pl.DataFrame] = []
        self.offsets: dict[str, dict[str, int]] = {}

    async def read_on(self) -> None:
        for topic, behind in (await self.new_in(POINTER, SWITCH)).select("topic", "behind").iter_rows():
            if self.topic:
                await self.take()  # it was stopped before the pointer was written: this is all of it
                self.behind = behind
                print(f"reader: goes on with {topic} behind {behind:%B %d, %H:%M}")
            self.topic = topic
        await self.take()

    async def take(self) -> None:
        hours = await self.new_in(self.topic, HOUR)
        self.hours.append(
            hours.filter(col("window_end") > self.behind).with_columns(topic=pl.lit(self.topic))
        )

    async def new_in(self, topic: str, schema: Mapping[str, object]) -> pl.DataFrame:
        """The topic's records since it was last read."""
        job = sf.Job("reader")
        named = re.compile(re.escape(topic))  # a pattern: before the first output there is no topic
        start = self.offsets.setdefault(topic, {})
        place = {"partition": "_partition", "offset": "_offset"}
        source = sf.KafkaSource(named, KAFKA, schema=schema, include=place, start=start, end="latest")
        new = job.read(source).collect()
        await job.run_async()
        for partition, offset in new.frame().group_by("_partition").agg(pl.max("_offset")).iter_rows():
            start[f"{topic}-{partition}"] = offset + 1
        return new.frame().sort("_partition", "_offset")


async def fly(flights: pl.DataFrame) -> None:
    """Flights into the topic, some days a second."""
    for some in flights.iter_slices(1_500):
        job = sf.Job("flights")
        sink = sf.KafkaSink(FLIGHTS, KAFKA, key="tailnum", delivery="at_least_once", create={"partitions": 4})
        job.read(sf.MemorySource(some)).write(sink)
        await job.run_async()
        await asyncio.sleep(0.1)


async def main() -> None:
    january, reader = pl.read_parquet(DATA), Reader()

    async def until(reached: Callable[[], bool]) -> None:
        while not reached():
            await reader.read_on()

    await fly(january[:1_500])
    await point_to(1)
    old = await run_live(1)
    flying = asyncio.create_task(fly(january[1_500:20_000]))
    await until(lambda: old.status().records_read > 9_000)

    print(f"version 2 starts {old.status().records_read:,} flights late")
    new = await run_live(2)
    await until(lambda: new.status().records_read >= old.status().records_read)
    lag = next(each.lag_records for each in new.status().operators if each.kind == "read")
    print(f"version 2 has read {new.status().records_read:,} flights after {new.elapsed:.1f} s, lag {lag}")

    await old.stop()
    behind = (await Reader().new_in(DELAYS[1], HOUR))["window_end"].max()
    assert isinstance(behind, datetime)
    await point_to(2, behind)

    await flying
    await fly(january[20_000:])
    await until(lambda: new.status().records_read == january.height)
    await new.stop()
    await reader.read_on()
    hours = pl.concat(reader.hours)
    parts = hours.group_by("topic", maintain_order=True)
    print(parts.agg(pl.len().alias("hours"), pl.sum("flights"), until=pl.max("window_end")))
    print(f"{hours.height:,} hours, {hours.select('origin', 'window_end').n_unique():,} different")
    hours.write_parquet(FOLDER / "hours.parquet")
    print(f"as read: {FOLDER / 'hours.parquet'}")


if __name__ == "__main__":
    asyncio.run(main())
