"""The measured process of the Kafka benchmarks that run for a while: a job between two topics, until its input ends.

`python -m benchmarks.kafka.running JOB BOOTSTRAP INPUT OUTPUT DELIVERY INTERVAL FOLDER`, where JOB is `forward` (keep
the wanted columns of each event) or `count` (W1 over the records' timestamps, 10 s windows by key). Prints JSON
lines: `at` (CLOCK_MONOTONIC), `state`, `read` (records), `mb` (resident memory), `checkpoints`. When its standard input
ends it processes what has been read, closes all windows and ends.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import streamflow as sf
from streamflow import col
from streamflow.api.running import run_on_loop

STAMPED = {"id": sf.Int64, "due": sf.Int64, "key": sf.String, "value": sf.Float64}
TELL_SECONDS = 0.25
REPLAYED = {"key": sf.String, "value": sf.Float64}


def forward(job: sf.Job, bootstrap: str, topic: str) -> sf.Stream:
    """The job whose latency is measured: a filter, a projection, records by key."""
    source = sf.KafkaSource(topic, bootstrap, schema=STAMPED, include={"timestamp": "appended"})
    wanted = job.read(source).filter(col("value") >= 0)
    return wanted.select("key", "id", "due", appended=col("appended").dt.epoch("ms"))


def count(job: sf.Job, bootstrap: str, topic: str) -> sf.Stream:
    """W1 over the time at which the records were written."""
    events = job.read(sf.KafkaSource(topic, bootstrap, schema=REPLAYED), watermark=sf.bounded_disorder("1s"))
    windows = events.key_by("key").window(sf.tumbling("10s"))
    counts = windows.aggregate(n=sf.count(), total=sf.sum("value"))
    return counts.select("key", "n", "total", start=col("window_start").dt.epoch("ms"))


def resident_mb(pid: str = "self") -> float:
    """Resident memory of a process in MiB (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def run(
    kind: str, bootstrap: str, source: str, target: str, delivery: Any, interval: str, folder: str
) -> None:
    job = sf.Job(f"bench-{kind}")
    stream = (forward if kind == "forward" else count)(job, bootstrap, source)
    stream.write(sf.KafkaSink(target, bootstrap, key="key", delivery=delivery))
    handle = await job.start(
        mode="streaming", checkpoint_dir=folder, checkpoint_interval=interval, restart="none"
    )
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    waiting = asyncio.create_task(handle.wait())
    while not ended.done() and not waiting.done():
        status = handle.status()
        assert status.checkpoint is not None
        said = {
            "state": status.state,
            "at": time.monotonic(),
            "read": status.records_read,
            "mb": resident_mb(),
            "checkpoints": status.checkpoint.taken,
        }
        print(json.dumps(said), flush=True)
        await asyncio.wait({ended, waiting}, timeout=TELL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if waiting.done():
        await waiting  # raises: a job without an end has failed
    await handle.stop(drain=True)
    await waiting


if __name__ == "__main__":
    run_on_loop(run(*sys.argv[1:]))
