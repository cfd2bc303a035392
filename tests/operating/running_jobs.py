"""Jobs that run beside a test, on an event loop of their own, and serve their metrics on a free port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import streamflow as sf
from streamflow import col

__all__ = ["TOKEN", "healthy", "running_jobs", "sick"]

TOKEN = "for-the-length-of-a-test"
SCHEMA = {"key": sf.String, "ts": sf.Int64, "n": sf.Int64}
MINUTE = 60_000


def ticks(late: int = 0) -> Any:
    """Two thousand records a second with the time of the clock; one in `late` is ten minutes old."""

    async def generate(start: int) -> AsyncIterator[dict[str, Any]]:
        n = start
        while True:
            for _ in range(20):
                n += 1
                age = 10 * MINUTE if late and n % late == 0 else 0
                yield {"key": f"key {n % 7}", "ts": time.time_ns() // 1_000_000 - age, "n": n}
            await asyncio.sleep(0.01)

    return generate


async def _swallow(rows: list[Any]) -> None:
    await asyncio.sleep(0)


def _windows(job: sf.Job, read: sf.Stream) -> sf.Job:
    # Every is longer than the windows: a quarter of the records is in none.
    windows = read.key_by("key").window(sf.sliding("150ms", every="200ms"))
    windows.aggregate(n=sf.count()).named("counts").write(sf.sink(_swallow))
    return job


def healthy() -> sf.Job:
    """A job with which nothing is wrong, and that has operators of every kind that counts something of its own."""
    job = sf.Job("healthy")
    read = job.read(sf.source(ticks(), schema=SCHEMA), event_time=sf.epoch("ts", unit="ms"))
    latest = read.select("key", latest=col("n")).to_table("key")
    read.deduplicate("key", within="50ms").join(latest, on="key").write(sf.sink(_swallow))
    read.join(latest.changes(), on="key", how="semi", ttl="1s").write(sf.sink(_swallow))
    return _windows(job, read)


def sick() -> sf.Job:
    """A job to which a third of the records comes too late, and a seventh makes a function raise."""

    def refused(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] % 7 == 0:
            raise ValueError("unlucky")
        return row

    job = sf.Job("sick")
    read = job.read(sf.source(ticks(late=3), schema=SCHEMA), event_time=sf.epoch("ts", unit="ms")).filter(
        col("n") > 0
    )
    return _windows(job, read.map(refused, schema=SCHEMA).named("refusing").on_error("skip"))


@contextmanager
def running_jobs(*jobs: sf.Job, **settings: Any) -> Generator[list[str]]:
    """The addresses at which the jobs serve their metrics while they run."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="jobs")
    thread.start()

    def call(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    handles: list[Any] = []
    try:
        for job in jobs:
            served = {"metrics_port": 0, "metrics_token": TOKEN, "mode": "streaming"}
            handles.append(call(job.start(**served, **settings.get(job.name, {}))))
        yield [f"127.0.0.1:{handle.metrics_port}" for handle in handles]
    finally:
        try:
            for handle in handles:
                call(handle.cancel())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
