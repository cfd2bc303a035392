"""The reference jobs of the simulator: each keeps another kind of state; all are small, so that a seed is soon done.

`streamflow simulate tests/simulation/jobs.py:sessions --seeds 1000`
"""

from __future__ import annotations

from typing import Any, ClassVar

import polars as pl

import streamflow as sf
from streamflow import col

__all__ = ["JOBS", "buckets", "cascade", "flushes", "sessions", "sliding", "totals", "tumbling", "union"]

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


class Buckets(sf.KeyedProcess):
    """Windows of five seconds by hand: a map of sums, a timer for the end of each, a count of all that were put out."""

    sums = sf.MapState(int, int)
    largest = sf.ReducingState(int, max)
    values = sf.ListState(int)
    output: ClassVar[object] = {"key": pl.String, "bucket": pl.Int64, "total": pl.Int64, "whole": pl.Boolean}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        assert ctx.timestamp is not None
        bucket = int(ctx.timestamp.timestamp()) // 5
        self.sums.put(bucket, self.sums.get(bucket, 0) + event["value"])
        self.largest.add(event["value"])
        self.values.add(event["value"])
        ctx.set_timer((bucket + 1) * 5_000_000)

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        bucket = int(timer.time.timestamp()) // 5 - 1
        total = self.sums.get(bucket)
        # How many of the key's later events have come depends on chance; its largest is in the list for certain.
        whole = self.largest.get() in self.values.get()
        ctx.emit({"key": ctx.key, "bucket": bucket, "total": total, "whole": whole})
        self.sums.remove(bucket)


class Flushes(sf.KeyedProcess):
    """Counts that go out some time after the first event, by the clock: how many rows that are depends on chance. The
    last ones go out at the end of the input, which fires timers of event time only."""

    pending = sf.ValueState(int, default=0)
    output: ClassVar[object] = {"key": pl.String, "n": pl.Int64}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        if not self.pending.value():
            ctx.set_processing_timer("15ms")
            ctx.set_timer(START + 86_400_000_000)
        self.pending.update(self.pending.value() + 1)

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        if self.pending.value():
            ctx.emit({"key": ctx.key, "n": self.pending.value()})
        self.pending.clear()


buckets = sf.Job("buckets")
read(buckets).key_by("key").process(Buckets).collect()

flushes = sf.Job("flushes")
read(flushes).key_by("key").process(Flushes).key_by("key").aggregate(n=sf.sum("n")).collect()

JOBS = {job.name: job for job in (tumbling, sliding, sessions, totals, union, cascade, buckets, flushes)}
