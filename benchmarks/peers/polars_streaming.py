"""Polars' streaming engine on the finished file: a bare group-by, no watermarks, no state. The limit for
text input."""

from benchmarks.measure import ResultRow, Stopwatch, arguments

watch = Stopwatch()

import polars as pl  # noqa: E402

from benchmarks.workloads.table import GAP_MS, SIZE_MS, SLIDING_MS  # noqa: E402

EVENT = {"ts": pl.Int64(), "key": pl.String(), "value": pl.Float64(), "kind": pl.String()}


def tumbling(events: pl.LazyFrame) -> pl.LazyFrame:
    start = (pl.col("ts") // SIZE_MS * SIZE_MS).alias("start")
    return events.group_by("key", start).agg(pl.len().alias("n"), pl.sum("value").alias("total"))


def sliding(events: pl.LazyFrame) -> pl.LazyFrame:
    shifts = pl.concat_list([pl.col("start") - shift for shift in range(0, SLIDING_MS, SIZE_MS)])
    return (
        tumbling(events)
        .with_columns(start=shifts)
        .explode("start")
        .group_by("key", "start")
        .agg(pl.sum("n", "total"))
    )


def sessions(events: pl.LazyFrame) -> pl.LazyFrame:
    ordered = events.select("key", "ts", "value").sort("key", "ts")
    key_changes = pl.col("key") != pl.col("key").shift()
    opens = (key_changes | (pl.col("ts") - pl.col("ts").shift() >= GAP_MS)).fill_null(value=True)
    bounds = (pl.first("key"), pl.min("ts").alias("start"), (pl.max("ts") + GAP_MS).alias("end"))
    numbered = ordered.with_columns(session=opens.cum_sum())
    return numbered.group_by("session").agg(*bounds, pl.len().alias("n"), pl.sum("value").alias("total"))


def words(lines: pl.LazyFrame) -> pl.LazyFrame:
    each = lines.select(key=pl.col("line").str.split(" ")).explode("key")
    return each.group_by("key").agg(pl.len().alias("n"))


workload, source, result = arguments()
watch.ready()
match workload:
    case "W1":
        query = tumbling(pl.scan_ndjson(source, schema=EVENT))
    case "W1p":
        query = tumbling(pl.scan_parquet(source))
    case "W2":
        query = sliding(pl.scan_ndjson(source, schema=EVENT))
    case "W3":
        query = sessions(pl.scan_ndjson(source, schema=EVENT))
    case "W4":
        query = words(pl.scan_lines(source, name="line"))
    case _:
        raise SystemExit(f"no such workload: {workload}")
frame = query.collect(engine="streaming")
watch.done()

match workload:
    case "W1" | "W1p":
        frame = frame.with_columns(end=pl.col("start") + SIZE_MS)
    case "W2":
        frame = frame.with_columns(end=pl.col("start") + SLIDING_MS)
    case "W4":
        frame = frame.with_columns(start=0, end=0, total=0.0)
events = int(frame["n"].sum()) // (SLIDING_MS // SIZE_MS if workload == "W2" else 1)
watch.report(events, map(ResultRow._make, frame.select(ResultRow._fields).iter_rows()), result)
