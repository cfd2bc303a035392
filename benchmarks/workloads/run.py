"""The measured process for streamflow: one workload, in one mode, into memory or into files.

`python -m benchmarks.workloads.run W1 events.ndjson result.csv`. Environment: `STREAMFLOW_BENCH_MODE` (streaming,
micro-batch, batch, auto), `STREAMFLOW_BENCH_PARALLELISM`, `STREAMFLOW_BENCH_CHECKPOINTS` (an interval; without it none
are taken), and `STREAMFLOW_BENCH_SINK` (collect, files). A result in files does not stay in memory, so peak memory is
measured that way.
"""

from benchmarks.measure import ResultRow, Stopwatch, arguments

watch = Stopwatch()

import os  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

import polars as pl  # noqa: E402

import streamflow as sf  # noqa: E402
from benchmarks.workloads.jobs import JOBS  # noqa: E402
from benchmarks.workloads.table import SIZE_MS, SLIDING_MS  # noqa: E402


def result_rows(frame: pl.DataFrame, workload: str) -> pl.DataFrame:
    """streamflow's result in the harness's terms: bounds in milliseconds, 0 for W4's totals."""
    if workload == "W4":
        return frame.select(
            "key", pl.lit(0).alias("start"), pl.lit(0).alias("end"), "n", pl.lit(0.0).alias("total")
        )
    bounds = (pl.col(f"window_{bound}").dt.timestamp("ms").alias(bound) for bound in ("start", "end"))
    return frame.select("key", *bounds, "n", "total")


def into_memory(stream: sf.Stream) -> Callable[[], pl.DataFrame]:
    return stream.collect().frame


def into_files(stream: sf.Stream, folder: str) -> Callable[[], pl.DataFrame]:
    stream.write(sf.FileSink(folder, format="parquet"))
    return lambda: pl.read_parquet(Path(folder) / "**" / "*.parquet")


workload, source, result = arguments()
# A total is final at the end of the input only: W4 is a batch job, like its peers' programs.
mode = "batch" if workload == "W4" else os.environ.get("STREAMFLOW_BENCH_MODE", "streaming")
parallelism = int(os.environ.get("STREAMFLOW_BENCH_PARALLELISM", "1"))
interval = os.environ.get("STREAMFLOW_BENCH_CHECKPOINTS")
watch.ready()
with TemporaryDirectory() as folder:
    job = sf.Job(workload.lower())
    stream = JOBS[workload](job, source)
    fetch = (
        into_files(stream, f"{folder}/output")
        if os.environ.get("STREAMFLOW_BENCH_SINK") == "files"
        else into_memory(stream)
    )
    given = {"checkpoint_dir": f"{folder}/checkpoints", "checkpoint_interval": interval} if interval else {}
    ended = job.run(mode=mode, parallelism=parallelism, **given)
    watch.done()
    rows = result_rows(fetch(), workload)
events = int(rows["n"].sum()) // (SLIDING_MS // SIZE_MS if workload == "W2" else 1)
watch.report(events, map(ResultRow._make, rows.iter_rows()), result, epochs=ended.epochs)
