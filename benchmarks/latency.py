"""The measured process for latency: streaming mode, 50,000 events a second, from a window's closing event to
its result.

Event `i` is due at `start + i / rate`; that is its event time, and what its lateness is counted from, so
that a program which falls behind cannot hide it by emitting later (coordinated omission). Windows are 100 ms
long, nothing is out of order, so window [s, e) closes with the first event due at or after e. Prints one
JSON line.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from datetime import datetime
from statistics import median, quantiles
from typing import Any

import streamflow as sf

RATE = 50_000
WINDOW_US = 100_000
KEYS = 1_000
TICK_SECONDS = 0.001
WARM_UP_SECONDS = 2.0
SCHEMA = {"t": sf.Int64, "key": sf.String, "value": sf.Float64}


class Clocked:
    """Emits what is due, once a millisecond, and notes when the event that closes each window went out."""

    def __init__(self, seconds: float) -> None:
        self.count = int(seconds * RATE)
        self.start_us = 0
        self.emitted: dict[int, int] = {}
        self.emission_seconds = 0.0

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        keys = [f"user-{number:04d}" for number in range(KEYS)]
        step = 1_000_000 // RATE
        self.start_us = (_now_us() // WINDOW_US + 1) * WINDOW_US
        sent, last_window = 0, -1
        while sent < self.count:
            due = min((_now_us() - self.start_us) // step, self.count)
            while sent < due:
                t = self.start_us + sent * step
                window = t // WINDOW_US * WINDOW_US
                if window != last_window:
                    self.emitted[window] = _now_us()
                    last_window = window
                yield {"t": t, "key": keys[sent * 7919 % KEYS], "value": 0.5}
                sent += 1
            await asyncio.sleep(TICK_SECONDS)
        self.emission_seconds = (_now_us() - self.start_us) / 1e6


class Arrivals:
    """A sink that notes when the last row of each window arrived."""

    def __init__(self) -> None:
        self.last: dict[int, int] = {}
        self.events = 0

    async def take(self, rows: list[dict[str, Any]]) -> None:
        now = _now_us()
        for row in rows:
            end: datetime = row["window_end"]
            self.last[round(end.timestamp() * 1e6)] = now
            self.events += row["n"]


def summary(latencies_ms: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    return {
        "p50": median(latencies_ms),
        "p99": quantiles(latencies_ms, n=100, method="inclusive")[98],
        "max": max(latencies_ms),
    }


def run(seconds: float) -> dict[str, Any]:
    """Runs the job for that long, plus a warm-up; latencies in milliseconds."""
    clocked, arrivals = Clocked(WARM_UP_SECONDS + seconds), Arrivals()
    job = sf.Job("latency")
    source = sf.source(clocked.events, schema=SCHEMA)
    events = job.read(source, event_time=sf.epoch("t", unit="us"), watermark=sf.bounded_disorder("0s"))
    windows = events.key_by("key").window(sf.tumbling("100ms"))
    windows.aggregate(n=sf.count(), total=sf.sum("value")).write(sf.sink(arrivals.take))
    job.run(mode="streaming")
    first = clocked.start_us + int(WARM_UP_SECONDS * 1e6)
    ends = [
        end for end in sorted(arrivals.last) if end >= first and end in clocked.emitted
    ]  # the last closes at the end of input
    return {
        "windows": len(ends),
        "events": arrivals.events,
        "events_per_second": clocked.count / clocked.emission_seconds,
        "from_due_ms": summary([(arrivals.last[end] - end) / 1000 for end in ends]),
        "from_emission_ms": summary([(arrivals.last[end] - clocked.emitted[end]) / 1000 for end in ends]),
    }


def _now_us() -> int:
    return time.time_ns() // 1000


if __name__ == "__main__":
    print(json.dumps(run(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)))
