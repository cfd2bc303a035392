"""PySpark Structured Streaming, tuned: a file stream with an available-now trigger, both cores, two shuffle
partitions.

One file is one micro-batch, and `complete` mode hands over every window once it has run (in `append` mode
the last windows would wait for an event that never comes). Start-up ends when the session is there.
"""

from benchmarks.measure import ResultRow, Stopwatch, arguments

watch = Stopwatch()

import csv  # noqa: E402
import os  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

from pyspark.sql import DataFrame, SparkSession  # noqa: E402
from pyspark.sql import functions as f  # noqa: E402

from benchmarks.workloads.table import DISORDER_MS, GAP_MS, SIZE_MS, SLIDING_MS  # noqa: E402

SCHEMA = "ts bigint, key string, value double, kind string"
CORES = os.cpu_count() or 1


def start_session(scratch: str) -> SparkSession:
    builder = SparkSession.builder.master(f"local[{CORES}]").config("spark.sql.shuffle.partitions", CORES)
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC")
    builder = builder.config("spark.sql.warehouse.dir", scratch).config("spark.log.level", "ERROR")
    return builder.config("spark.driver.memory", "2g").getOrCreate()


def panes(events: DataFrame, workload: str) -> DataFrame:
    timed = events.withColumn("et", f.timestamp_millis("ts")).withWatermark(
        "et", f"{DISORDER_MS} milliseconds"
    )
    match workload:
        case "W2":
            window = f.window("et", f"{SLIDING_MS} milliseconds", f"{SIZE_MS} milliseconds")
        case "W3":
            window = f.session_window("et", f"{GAP_MS} milliseconds")
        case _:
            window = f.window("et", f"{SIZE_MS} milliseconds")
    grouped = timed.groupBy("key", window.alias("w")).agg(
        f.count("*").alias("n"), f.sum("value").alias("total")
    )
    return grouped.select("key", f.unix_millis("w.start"), f.unix_millis("w.end"), "n", "total")


def rows_in(folder: Path) -> Iterator[ResultRow]:
    for path in folder.glob("*.csv"):
        with path.open(newline="") as lines:
            for key, start, end, count, total in csv.reader(lines):
                yield ResultRow(key, int(start), int(end), int(count), float(total))


workload, source, result = arguments()
with TemporaryDirectory() as folder:
    spark = start_session(f"{folder}/warehouse")
    watch.ready()
    inputs = Path(folder, "in")
    inputs.mkdir()
    (inputs / source.name).symlink_to(source.resolve())
    reader = spark.readStream
    if workload == "W4":
        word = f.explode(f.split("value", " ")).alias("key")
        counted = reader.text(str(inputs)).select(word).groupBy("key").count()
        answer = counted.select("key", f.lit(0), f.lit(0).alias("end"), "count", f.lit(0.0))
    else:
        reader = reader.schema(SCHEMA)
        answer = panes(
            reader.parquet(str(inputs)) if workload == "W1p" else reader.json(str(inputs)), workload
        )

    def write(batch: DataFrame, _: int) -> None:
        batch.write.mode("overwrite").csv(f"{folder}/out")

    query = answer.writeStream.outputMode("complete").trigger(availableNow=True).foreachBatch(write)
    query.option("checkpointLocation", f"{folder}/checkpoint").start().awaitTermination()
    watch.done()
    rows = list(rows_in(Path(folder, "out")))
    spark.stop()
events = sum(row.n for row in rows) // (SLIDING_MS // SIZE_MS if workload == "W2" else 1)
watch.report(events, rows, result)
