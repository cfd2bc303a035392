"""The measured process for checkpoints of keyed state: 64 random bytes for each key, in RocksDB.

`python -m benchmarks.workloads.keyed_checkpoints DO FOLDER KEYS`, where DO is one of

- `fill`: write every key once, as fast as it goes, take a last checkpoint, end; prints its bytes.
- `live`: go on at `RATE` events a second with a checkpoint every second; prints for each of them the longest pause that
  its barrier made in any subtask, its duration and its bytes.
- `recover`: print the seconds from this module's first line to the first record processed after the restore, and end
  with SIGKILL, so that the next one finds what this one found.
"""

import time

BORN = time.monotonic()

import asyncio  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import polars as pl  # noqa: E402

import streamflow as sf  # noqa: E402
from streamflow import col  # noqa: E402
from streamflow.api.running import run_on_loop  # noqa: E402
from streamflow.runners.local import LocalJob  # noqa: E402

IMPORTED = time.monotonic()
RATE = 100_000
LIVE_SECONDS = 15.0
STRIDE = 7_368_787
"""A prime: its multiples, modulo the number of keys, come by each key once before they repeat."""


class Latest(sf.KeyedProcess):
    """Keeps the latest payload of each key."""

    payload = sf.ValueState(str, default="")

    def on_event(self, event: dict[str, Any], ctx: sf.ProcessContext) -> None:
        if not event["payload"]:
            ctx.emit(event)
        self.payload.update(event["payload"])


def job_of(folder: Path, keys: int, rate: int | None) -> sf.Job:
    job = sf.Job("keyed-checkpoints")
    parts = [col("index").hash(salt).cast(pl.String).str.zfill(20) for salt in range(4)]
    made = {
        "key": pl.format("user-{}", col("index") * STRIDE % keys),
        "payload": pl.concat_str(parts).str.slice(0, 64),
    }
    processed = job.read(sf.DataGen(made, rate=rate)).key_by("key").process(Latest())
    processed.write(sf.FileSink(str(folder / "output"), format="ndjson"))
    return job


async def run(do: str, folder: Path, keys: int) -> dict[str, Any]:
    handle = await job_of(folder, keys, None if do == "fill" else RATE).start(
        mode="streaming", checkpoint_dir=str(folder / "checkpoints"), checkpoint_interval="1s", restart="none"
    )
    match do:
        case "fill":
            while handle.status().records_read < keys:  # noqa: ASYNC110 — nobody else tells
                await asyncio.sleep(0.05)
            await handle.stop()
            return {"bytes": handle.status().checkpoint.nbytes}
        case "recover":
            while not _processed(handle):  # noqa: ASYNC110 — nobody else tells
                await asyncio.sleep(0.001)
            cpu = time.process_time()  # the interpreter's start included
            said = {"first_record": time.monotonic() - BORN, "imported": IMPORTED - BORN, "cpu": cpu}
            print(json.dumps(said), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    said = await _live(handle)
    await handle.stop()
    return said


def _processed(handle: LocalJob) -> bool:
    """Whether a record has come to the process; `status` would cost more."""
    operators = handle.registry.operators
    return any(metrics.records_in.value for (id, _), metrics in operators.items() if id == "process-1")


async def _live(handle: LocalJob) -> dict[str, Any]:
    pauses, durations, sizes, seen = [], [], [], 0
    until = time.monotonic() + LIVE_SECONDS
    while time.monotonic() < until:
        await asyncio.sleep(0.02)
        taken = handle.status().checkpoint
        if taken.taken > seen:
            seen = taken.taken
            metrics = [m.value for m in handle.registry if m.name == "streamflow_barrier_pause_seconds"]
            pauses.append(max(metrics))
            durations.append(taken.duration)
            sizes.append(taken.nbytes)
    rate = handle.status().records_read / handle.elapsed
    return {"pauses": pauses, "durations": durations, "bytes": sizes, "rate": rate}


if __name__ == "__main__":
    print(json.dumps(run_on_loop(run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))))
