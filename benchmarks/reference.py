"""The right answers: Polars' arithmetic on the finished data, and the comparison of a program's result with
them.

Counts per key and window must be equal, sums within the tolerance that another order of additions needs.
Some peers count an event exactly one gap after the last one to the same session (Flink does); their answer
is judged by their rule.
"""

from collections import Counter
from pathlib import Path

import polars as pl

from benchmarks.workloads.table import GAP_MS, SIZE_MS, SLIDING_MS, Workload

RESULT_SCHEMA = {
    "key": pl.String(),
    "start": pl.Int64(),
    "end": pl.Int64(),
    "n": pl.Int64(),
    "total": pl.Float64(),
}
TOLERANCE = 1e-6


def expected(workload: Workload, source: Path, *, closed_gap: bool = False) -> pl.DataFrame:
    """The result that `workload` must have over the finished data: one row per key and window."""
    match workload.result:
        case "words":
            return _words(source)
        case "tumbling":
            return _conform(_tumbling(_events(source)))
        case "sliding":
            return _conform(_sliding(_tumbling(_events(source))))
        case "session":
            return _conform(_sessions(_events(source), closed_gap=closed_gap))


def differences(found: pl.DataFrame, wanted: pl.DataFrame) -> str | None:
    """None where the results agree; else one line that says how they do not."""
    found = found.cast(RESULT_SCHEMA)  # type: ignore[arg-type]
    if found.height != wanted.height:
        counts = found["n"].sum(), wanted["n"].sum()
        return f"{found.height} rows (count {counts[0]}) instead of {wanted.height} (count {counts[1]})"
    both = found.join(wanted, on=["key", "start", "end"], suffix="_wanted")
    if both.height != wanted.height:
        return f"{wanted.height - both.height} of {wanted.height} windows are other windows"
    off = (pl.col("total") - pl.col("total_wanted")).abs() > TOLERANCE
    wrong = both.filter((pl.col("n") != pl.col("n_wanted")) | off)
    return None if wrong.is_empty() else f"{wrong.height} wrong rows, the first {wrong.row(0, named=True)}"


def read_result(path: Path) -> pl.DataFrame:
    """A result as a measured program wrote it down."""
    return pl.read_csv(path, schema=RESULT_SCHEMA)


def _events(source: Path) -> pl.LazyFrame:
    """Always from the Parquet twin: that the text is read right is part of what is checked."""
    return pl.scan_parquet(source.with_suffix(".parquet")).select("ts", "key", "value")


def _tumbling(events: pl.LazyFrame) -> pl.LazyFrame:
    start = pl.col("ts") - pl.col("ts") % SIZE_MS
    panes = events.group_by("key", start=start).agg(n=pl.len(), total=pl.sum("value"))
    return panes.with_columns(end=pl.col("start") + SIZE_MS)


def _sliding(panes: pl.LazyFrame) -> pl.LazyFrame:
    shifts = [pl.col("start") - shift for shift in range(0, SLIDING_MS, SIZE_MS)]
    every = panes.select("key", "n", "total", start=pl.concat_list(shifts)).explode("start")
    windows = every.group_by("key", "start").agg(pl.sum("n", "total"))
    return windows.with_columns(end=pl.col("start") + SLIDING_MS)


def _sessions(events: pl.LazyFrame, *, closed_gap: bool) -> pl.LazyFrame:
    distance = pl.col("ts").diff().over("key", order_by="ts")
    apart = distance > GAP_MS if closed_gap else distance >= GAP_MS
    number = apart.fill_null(value=False).cum_sum().over("key", order_by="ts")
    first_last = (pl.min("ts").alias("start"), (pl.max("ts") + GAP_MS).alias("end"))
    numbered = events.with_columns(session=number)
    return numbered.group_by("key", "session").agg(*first_last, n=pl.len(), total=pl.sum("value"))


def _words(source: Path) -> pl.DataFrame:
    counts = Counter[str]()
    with source.open() as lines:
        for line in lines:
            counts.update(line.split())
    words = pl.LazyFrame({"key": list(counts), "n": list(counts.values())})
    return _conform(words.with_columns(start=0, end=0, total=0.0))


def _conform(result: pl.LazyFrame) -> pl.DataFrame:
    return result.select(*RESULT_SCHEMA).cast(RESULT_SCHEMA).collect()  # type: ignore[arg-type]
