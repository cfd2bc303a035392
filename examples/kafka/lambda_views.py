"""Lambda: history recomputed from files, live flights on top, and a query that adds both up, counting each flight once.

`delays` is the code of both layers. The batch layer archives the topic as Parquet, each flight with its partition and
offset, and computes its view again from all files. The speed layer reads live what lies behind the last offset in them:
that horizon between the two views is exact. Done twice, while flights keep coming in.

    make kafka
    python examples/kafka/lambda_views.py 127.0.0.1:9092

Each run has a folder of its own, and topics named like it.
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

import polars as pl

import streamflow as sf
from streamflow import col
from streamflow.demo.build_data import DATA
from streamflow.runners.local import LocalJob

KAFKA = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
FOLDER = Path(tempfile.mkdtemp(prefix="lambda-"))
FLIGHTS, SPEED = f"{FOLDER.name}-flights", f"{FOLDER.name}-speed"
FLIGHT = {"scheduled": sf.Datetime("us", "UTC"), "origin": sf.String, "dep_delay": sf.Int32}
VIEW = {"origin": sf.String, "day": sf.Date, "flights": sf.Int64, "minutes": sf.Int64}


def delays(flights: sf.Stream) -> sf.Stream:
    """The results of both layers: counts and sums, since those of two views add up; means come with the query."""
    departed = flights.filter(col("dep_delay").is_not_null()).with_columns(day=col("scheduled").dt.date())
    totals = departed.key_by("origin", "day").aggregate(flights=sf.count(), minutes=sf.sum("dep_delay"))
    return totals.filter(col("change") != "update_before").drop("change")  # of a key, the newest row counts


async def feed(first: int, last: int) -> int:
    """The flights of these days of 2013, into the topic; says how many."""
    flights = pl.read_parquet(DATA).filter(pl.col("scheduled").dt.ordinal_day().is_between(first, last))
    job = sf.Job("feed")
    sink = sf.KafkaSink(FLIGHTS, KAFKA, key="tailnum", delivery="at_least_once", create={"partitions": 4})
    job.read(sf.MemorySource(flights)).write(sink)
    await job.run_async()
    return flights.height


def horizon() -> dict[str, int]:
    """The first offset of each partition that is not in the archive."""
    files = sorted((FOLDER / "archive").glob("*.parquet"))
    if not files:
        return {}
    last = pl.scan_parquet(files).group_by("topic", "partition").agg(pl.max("offset")).collect()
    return {f"{topic}-{partition}": offset + 1 for topic, partition, offset in last.iter_rows()}


async def batch_layer(number: int) -> None:
    """Archive what is not archived yet, then compute a view of all that is."""
    archive = sf.Job("archive")
    place = ["topic", "partition", "offset"]
    new = sf.KafkaSource(FLIGHTS, KAFKA, schema=FLIGHT, include=place, start=horizon(), end="latest")
    archive.read(new).write(sf.FileSink(FOLDER / "archive", mode="append"))
    await archive.run_async()

    batch = sf.Job("batch")
    delays(batch.read(sf.FileSource(f"{FOLDER}/archive/*.parquet"))).write(
        sf.FileSink(FOLDER / f"batch-{number}.parquet")
    )
    await batch.run_async()


async def speed_layer(number: int) -> LocalJob:
    """Start to keep a view, in a topic, of all that is behind the horizon."""
    job = sf.Job(f"{SPEED}-{number}")
    live = sf.KafkaSource(FLIGHTS, KAFKA, schema=FLIGHT, start=horizon())
    view = sf.KafkaSink(f"{SPEED}-{number}", KAFKA, key=["origin", "day"], create={"partitions": 2})
    delays(job.read(live)).write(view)
    return await job.start(
        mode="streaming", checkpoint_dir=FOLDER / f"checkpoints-{number}", checkpoint_interval="200ms"
    )


async def query(number: int) -> pl.DataFrame:
    """Both views, added up."""
    job = sf.Job("query")
    topic = re.compile(f"{SPEED}-{number}")  # a pattern: with nothing behind the horizon it is not there yet
    rows = job.read(sf.KafkaSource(topic, KAFKA, schema=VIEW, include=["offset"], end="latest")).collect()
    await job.run_async()
    speed = rows.frame().sort("offset").unique(["origin", "day"], keep="last").drop("offset")
    batch = pl.read_parquet(FOLDER / f"batch-{number}.parquet")
    both = pl.concat([batch.with_columns(view=pl.lit("batch")), speed.with_columns(view=pl.lit("speed"))])
    of = {f"of_{view}": pl.col("flights").filter(pl.col("view") == view).sum() for view in ("batch", "speed")}
    mean = pl.sum("minutes") / pl.sum("flights")
    return both.group_by("origin").agg(pl.sum("flights"), **of, mean_delay=mean).sort("origin")


async def up_to_date(speed: LocalJob, fed: int) -> None:
    """Wait until the speed layer has read, and published, all flights that are not in the archive."""
    archived = pl.scan_parquet(FOLDER / "archive" / "*.parquet").select(pl.len()).collect().item()
    while speed.status().records_read < fed - archived:  # noqa: ASYNC110 — a status has no event to wait for
        await asyncio.sleep(0.02)
    await speed.checkpoint()


async def main() -> None:
    fed = await feed(1, 14)
    await batch_layer(1)
    speed = await speed_layer(1)
    fed += await feed(15, 20)
    await up_to_date(speed, fed)
    print("up to January 20, live since the 15th:", await query(1), sep="\n")

    # The nightly run. Flights come in while it archives; to which side of the horizon they fall makes no difference.
    more, _ = await asyncio.gather(feed(21, 25), batch_layer(2))
    newer = await speed_layer(2)
    await up_to_date(newer, fed + more)
    print("up to January 25, with views made again:", await query(2), sep="\n")
    await speed.stop()  # nobody asks for views number 1 any more

    more += await feed(26, 32)  # in UTC, the 31st's last flights leave in February
    await up_to_date(newer, fed + more)
    print("all of January:", await query(2), sep="\n")
    await newer.stop()
    print(f"archive and batch views: {FOLDER}")


if __name__ == "__main__":
    asyncio.run(main())
