"""The reference jobs of the simulator: each keeps another kind of state; all are small, so that a seed is soon done.

`streamflow simulate tests/simulation/jobs.py:sessions --seeds 1000`
"""

from __future__ import annotations

import polars as pl

import streamflow as sf
from streamflow import col

__all__ = ["JOBS", "cascade", "sessions", "sliding", "totals", "tumbling", "union"]

ROWS = 30
KEYS = "abcde"
START = 1_356_998_400_000_000  # 2013-01-01


def events(count: int = ROWS, *, step: int = 1, salt: int = 0) -> sf.MemorySource:
    """One event every `step` seconds; keys and values from a congruential generator, the same everywhere."""
    number, keys, values = 7 + salt, [], []
    for _ in range(count):
        number = (number * 1_103_515_245 + 12_345) % (1 << 31)
        keys.append(KEYS[(number >> 16) % len(KEYS)])
        values.append((number >> 8) % 100)
    times = [START + row * step * 1_000_000 for row in range(count)]
    frame = pl.DataFrame({"key": keys, "value": values, "at": times})
    return sf.MemorySource(frame.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC"))))


def read(job: sf.Job, source: sf.MemorySource | None = None, *, bound: str = "4s") -> sf.Stream:
    """A stream of events that may come `bound` late."""
    return job.read(source or events(), event_time="at", watermark=sf.bounded_disorder(bound))


tumbling = sf.Job("tumbling")
_windows = (
    read(tumbling)
    .filter(col("value") >= 5)
    .key_by("key")
    .window(sf.tumbling("5s"), allowed_lateness="2s")
    .aggregate(n=sf.count(), total=sf.sum("value"), mean=sf.mean("value"), worst=sf.max("value"))
)
_windows.collect()
_windows.late.collect()

sliding = sf.Job("sliding")
(
    read(sliding)
    .key_by("key")
    .window(sf.sliding("6s", every="2s"))
    .aggregate(n=sf.count(), total=sf.sum("value"))
    .collect()
)

sessions = sf.Job("sessions")
(
    read(sessions, bound="3s")
    .key_by("key")
    .window(sf.session(gap="4s"))
    .aggregate(n=sf.count(), total=sf.sum("value"))
    .collect()
)

totals = sf.Job("totals")
read(totals).key_by("key").aggregate(n=sf.count(), total=sf.sum("value")).collect()

union = sf.Job("union")
(
    read(union, events(16))
    .union(read(union, events(16, step=2, salt=5), bound="6s"))
    .key_by("key")
    .window(sf.tumbling("4s"))
    .aggregate(n=sf.count(), total=sf.sum("value"))
    .collect()
)

cascade = sf.Job("cascade")
_first = read(cascade).key_by("key").window(sf.tumbling("3s")).aggregate(n=sf.count(), total=sf.sum("value"))
_first.key_by("n").aggregate(windows=sf.count(), most=sf.max("total")).collect()

JOBS = {job.name: job for job in (tumbling, sliding, sessions, totals, union, cascade)}
