"""The measured process for state larger than memory: W1's windows over keys that hardly repeat, all open to the end.

`python -m benchmarks.workloads.large_state EVENTS.parquet FOLDER BUDGET [PARALLELISM]` writes the result to FOLDER as
Parquet and prints one JSON line: seconds, peak memory of the process in MiB.
"""

import json
import sys
import time

from benchmarks.measure import peak_mb

started = time.monotonic()

import streamflow as sf  # noqa: E402

source, folder, budget, *parallelism = sys.argv[1:]
job = sf.Job("large-state")
events = job.read(
    sf.FileSource(source, schema={"ts": sf.Int64, "key": sf.String, "value": sf.Float64}),
    event_time=sf.epoch("ts", unit="ms"),
    watermark=sf.bounded_disorder("1d"),
)
windows = events.key_by("key").window(sf.tumbling("1h"))
windows.aggregate(n=sf.count(), total=sf.sum("value")).write(sf.FileSink(folder, format="parquet"))
job.run(mode="streaming", memory_budget=budget, parallelism=int(*parallelism or ["1"]))
print(json.dumps({"seconds": time.monotonic() - started, "peak_mb": peak_mb()}))
