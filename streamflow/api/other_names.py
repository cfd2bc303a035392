"""Names that people try first because other libraries use them, each with the name to use here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

__all__ = ["AGGREGATES", "ELSEWHERE", "STREAM", "missing"]

_MEDIAN: Final = "quantile(column, 0.5)"
_READ: Final = "FileSource(path), read by job.read(…)"
ELSEWHERE: Final = {
    "median": _MEDIAN,
    "avg": "mean(column)",
    "average": "mean(column)",
    "stddev": "std(column)",
    "stdev": "std(column)",
    "variance": "var(column)",
    "percentile": "quantile(column, q), with q between 0 and 1",
    "count_distinct": "n_unique(column)",
    "approx_count_distinct": "approx_n_unique(column)",
    "array_agg": "collect_list(column)",
    "hop": "sliding(size, every=…)",
    "hopping": "sliding(size, every=…)",
    "tumble": "tumbling(size)",
    "window": "tumbling(size), sliding(size, every=…) or session(gap=…), and window(…) of a stream",
    "watermark": "bounded_disorder(bound), and job.read(source, watermark=…)",
    "read_csv": _READ,
    "read_parquet": _READ,
    "read_ndjson": _READ,
    "scan_csv": _READ,
    "scan_parquet": _READ,
    "from_kafka": "KafkaSource(topic, …), read by job.read(…)",
    "read_kafka": "KafkaSource(topic, …), read by job.read(…)",
    "concat": "stream.union(other)",
    "union": "stream.union(other)",
    "when": "polars.when(…)",
    "udf": "stream.map(function)",
}
"""Name tried in the package → name to use."""

AGGREGATES: Final = {
    "avg": "mean(column)",
    "average": "mean(column)",
    "median": "aggregate(median=sf.quantile(column, 0.5))",
    "quantile": "aggregate(q=sf.quantile(column, …))",
    "percentile": "aggregate(q=sf.quantile(column, …))",
    "std": "aggregate(std=sf.std(column))",
    "stddev": "aggregate(std=sf.std(column))",
    "var": "aggregate(var=sf.var(column))",
    "join": "join(other, on=…) of the stream before key_by(…), with window= or within=",
    "join_asof": "join_asof(other, on=…) of the stream before key_by(…)",
}
"""Name tried as an aggregate → name to use."""

_TOGETHER: Final = "key_by(…).process(…, broadcast=other), or union(other) and key_by(…).process(…)"
STREAM: Final = {
    "group_by": "key_by(…)",
    "groupby": "key_by(…)",
    "keyBy": "key_by(…)",
    "partition_by": "key_by(…)",
    "agg": "key_by(…).aggregate(…)",
    "aggregate": "key_by(…).aggregate(…), or window(…).aggregate(…) without a key",
    "reduce": "key_by(…).reduce(function)",
    "process": "key_by(…).process(MyProcess)",
    "match": "key_by(…).match(sf.pattern(…))",
    "where": "filter(…)",
    "with_column": "with_columns(…)",
    "assign": "with_columns(…)",
    "withColumn": "with_columns(…)",
    "sink": "write(sink)",
    "to": "write(sink)",
    "add_sink": "write(sink)",
    "sink_to": "write(sink)",
    "print": "write(sf.ConsoleSink()), or show(n) for a look",
    "tail": "head(n) or show(n): a stream has no end",
    "limit": "head(n) or show(n)",
    "take": "head(n) or show(n)",
    "apply": "map(function), or map_batches(function) for whole DataFrames",
    "map_elements": "map(function)",
    "map_rows": "map(function)",
    "for_each": "write(sf.sink(function))",
    "foreach": "write(sf.sink(function))",
    "concat": "union(other)",
    "flatmap": "flat_map(function)",
    "columns": "schema",
    "dtypes": "schema",
    "to_dicts": "collect(), and rows() of it after job.run()",
    "rows": "collect(), and rows() of it after job.run()",
    "frame": "collect(), and frame() of it after job.run()",
    "run": "run() of the job",
    "execute": "run() of the job",
    **dict.fromkeys(
        (
            "assign_timestamps",
            "assign_timestamps_and_watermarks",
            "assignTimestampsAndWatermarks",
            "with_event_time",
            "with_timestamps",
        ),
        "job.read(source, event_time=…), which takes an expression or a function of the record",
    ),
    "with_watermark": "job.read(source, watermark=…)",
    "withWatermark": "job.read(source, watermark=…)",
    "late": ".late of the result of a window, a join, sort, deduplicate, match or process",
    "output": '.output("name") of the result of process(…)',
    "get_side_output": '.output("name") of the result of process(…)',
    "getSideOutput": '.output("name") of the result of process(…)',
    "suppress": "a window without a trigger, which puts out one result, when it closes",
    "flatMap": "flat_map(function)",
    "map_values": "map(function)",
    "mapValues": "map(function)",
    "update": "map(function)",
    "peek": "map(function)",
    "async_map": "map_async(function)",
    "branch": 'split(name=expression, …), a dict of streams: …["name"]',
    "group_by_key": "key_by(…)",
    "groupByKey": "key_by(…)",
    "groupBy": "key_by(…)",
    "group_into_batches": "key_by(…).process(MyProcess), with an sf.ListState and timers",
    "select_key": "key_by(…)",
    "selectKey": "key_by(…)",
    "broadcast": 'key_by(…).process(…, broadcast=stream), or join(stream, on=…, strategy="broadcast")',
    "window_all": "window(…)",
    "windowAll": "window(…)",
    "tumbling_window": "window(sf.tumbling(…))",
    "hopping_window": "window(sf.sliding(size, every=…))",
    "sliding_window": "window(sf.sliding(size, every=…))",
    "session_window": "window(sf.session(gap=…))",
    "dropDuplicatesWithinWatermark": "deduplicate(on, within=…)",
    "drop_duplicates_within_watermark": "deduplicate(on, within=…)",
    "uid": 'named("…")',
    "set_parallelism": "parallel(subtasks)",
    "setParallelism": "parallel(subtasks)",
    "to_topic": "write(sf.KafkaSink(topic, …))",
    "write_stream": "write(sink)",
    "writeStream": "write(sink)",
    "to_stream": "it as it is",
    "toStream": "it as it is",
    "fill_null": "with_columns(sf.col(…).fill_null(…))",
    "cast": "with_columns(sf.col(…).cast(…))",
    "avg": "key_by(…).mean(column)",
    "average": "key_by(…).mean(column)",
    "mean": "key_by(…).mean(column)",
    "median": "key_by(…).aggregate(median=sf.quantile(column, 0.5))",
    "min": "key_by(…).min(column)",
    "max": "key_by(…).max(column)",
    "order_by": 'sort("event_time"), or sort(column) in batch mode',
    "merge": "join(other, on=…), or union(other) for one stream of both",
    "connect": _TOGETHER,
    "cogroup": 'join(other, on=…, how="outer", window=sf.tumbling(…))',
    "coGroup": 'join(other, on=…, how="outer", window=sf.tumbling(…))',
    "left_join": 'join(other, on=…, how="left")',
    "leftJoin": 'join(other, on=…, how="left")',
    "outer_join": 'join(other, on=…, how="outer")',
    "outerJoin": 'join(other, on=…, how="outer")',
    "interval_join": 'join(other, on=…, within=("-5m", "5m"))',
    "intervalJoin": 'join(other, on=…, within=("-5m", "5m"))',
    "join_interval": 'join(other, on=…, within=("-5m", "5m"))',
    "join_window": "join(other, on=…, window=sf.tumbling(…))",
    "join_latest": "join(other.to_table(key)), or join_asof(other, on=…)",
    "merge_asof": "join_asof(other, on=…)",
    "toTable": "to_table(key)",
    "unique": "distinct(), or deduplicate(on)",
    "drop_duplicates": "deduplicate(on), or distinct()",
    "dropDuplicates": "deduplicate(on), or distinct()",
    "write_parquet": "write(sf.FileSink(folder))",
    "write_csv": 'write(sf.FileSink(folder, format="csv"))',
    "to_pandas": "collect(), and frame().to_pandas() of it after job.run()",
    "count": 'key_by(…).count(), or key_by(pl.lit("all").alias("all")).count() for one total',
    "sum": "key_by(…).sum(column)",
    "tumbling": "window(sf.tumbling(…))",
    "name": 'named("…")',
    "alias": 'named("…")',
}


def missing(kind: str, name: str, elsewhere: Mapping[str, str], known: Iterable[str]) -> AttributeError:
    """The AttributeError for a name that a class does not have; `elsewhere` maps such names to those to use.

    >>> missing("Stream", "where", {"where": "filter(…)"}, ["filter"])
    AttributeError("Stream has no 'where': use filter(…)")
    """
    if name in elsewhere:
        return AttributeError(f"{kind} has no {name!r}: use {elsewhere[name]}")
    if name.startswith("_"):
        # Libraries ask modules and objects for such names, often.
        return AttributeError(f"{kind} has no {name!r}")
    near = get_close_matches(name, [each for each in known if not each.startswith("_")], n=1)
    return AttributeError(f"{kind} has no {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
