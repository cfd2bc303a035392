"""The measured process for streamflow's joins: two files of events in, the pairs out into CSV files.

`python -m benchmarks.workloads.join_files interval FOLDER`; FOLDER has left.ndjson and right.ndjson. Changes of a
regular join are no rows that a file could append, and are thrown away.
"""

from benchmarks.measure import Stopwatch, arguments

watch = Stopwatch()

from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

import streamflow as sf  # noqa: E402

EVENT = {"ts": sf.Int64, "key": sf.Int64, "value": sf.Int64}


def read(job: sf.Job, path: Path) -> sf.Stream:
    source = sf.FileSource(str(path), schema=EVENT)
    return job.read(source, event_time=sf.epoch("ts", unit="ms"), watermark="1s")


workload, source, _ = arguments()
watch.ready()
with TemporaryDirectory() as folder:
    job = sf.Job("joins")
    left, right = (read(job, source / f"{side}.ndjson") for side in ("left", "right"))
    match workload:
        case "interval":
            joined = left.join(right, on="key", within=("-1m", "1m"))
        case "asof":
            joined = left.join_asof(right, on="key")
        case _:
            joined = left.to_table("key").changes().join(right.to_table("key").changes(), on="key")
    if workload == "regular":
        joined.map_batches(lambda frame: frame.head(0)).collect()
    else:
        pairs = joined.select("key", "value", "value_right")
        pairs.write(sf.FileSink(f"{folder}/pairs", format="csv"))
    ended = job.run(mode="streaming")
    watch.done()
    written = sum(path.read_bytes().count(b"\n") - 1 for path in Path(folder).rglob("*.csv"))
watch.report(sum(ended.records_in[f"read-{side}"] for side in (1, 2)), [], pairs=written)
