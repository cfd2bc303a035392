"""The reference jobs of the simulator: each keeps another kind of state; all are small, so that a seed is soon done.

`streamflow simulate tests/simulation/jobs.py:sessions --seeds 1000`
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import polars as pl

import streamflow as sf
from streamflow import col
from streamflow.testing.simulation.campaign import Campaign

__all__ = [
    "JOBS",
    "TRIGGERED",
    "arriving",
    "asof_join",
    "branches",
    "buckets",
    "campaign",
    "cascade",
    "changing_join",
    "early_panes",
    "flushes",
    "interval_join",
    "late_sessions",
    "on_workers",
    "ordered",
    "patterns",
    "pieces",
    "reminders",
    "sessions",
    "sliding",
    "totals",
    "tumbling",
    "union",
    "window_join",
]

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


class Runs(sf.KeyedProcess):
    """How many events of a key have come since none came for three seconds: what it sees depends on every event's and
    timer's place."""

    run = sf.ValueState(int, default=0)
    output: ClassVar[object] = {"key": pl.String, "run": pl.Int64, "value": pl.Int64}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.run.update(self.run.value() + 1)
        ctx.emit({"key": ctx.key, "run": self.run.value(), "value": event["value"]})
        ctx.set_timer(timedelta(seconds=3))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self.run.clear()


ordered = sf.Job("ordered")
read(ordered).key_by("key").process(Runs, order="event_time").collect()

arriving = sf.Job("arriving")
read(arriving, bound="0s").key_by("key").process(Runs).collect()

buckets = sf.Job("buckets")
read(buckets).key_by("key").process(Buckets).collect()

flushes = sf.Job("flushes")
read(flushes).key_by("key").process(Flushes).key_by("key").aggregate(n=sf.sum("n")).collect()


def marked(row: dict[str, Any]) -> dict[str, Any]:
    """Changes the row that it is given."""
    row["marked"] = True
    return row


branches = sf.Job("branches")
_rows = branches.read(
    sf.MemorySource([{"key": KEYS[n % 5], "tags": [n]} for n in range(ROWS)], schema=sf.OBJECTS)
)
_rows.collect()
_rows.map(marked, schema=sf.OBJECTS).collect()


def pairs(keys: int = 16) -> sf.MemorySource:
    """Two events of a key, ten seconds apart, and two more much later: in sessions of a gap of twelve seconds the first
    fires if the second comes late, which continues it, and ends some time after all that fired is over by itself."""
    rows = [
        {"key": f"k{key:02}", "value": key, "at": START + (key * 2 + time) * 1_000_000}
        for key in range(keys)
        for time in (0, 10, 34, 44)
    ]
    frame = pl.DataFrame(rows).sort("at")
    return sf.MemorySource(frame.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC"))))


late_sessions = sf.Job("late-sessions")
(
    read(late_sessions, pairs(), bound="1s")
    .key_by("key")
    .window(sf.session(gap="12s"), allowed_lateness="4s", accumulation="retracting")
    .aggregate(n=sf.count(), total=sf.sum("value"))
    .collect()
)


early_panes = sf.Job("early-panes")
(
    read(early_panes, pairs(3), bound="1s")
    .key_by("key")
    .window(
        sf.session(gap="12s"),
        trigger=sf.after_watermark(
            early=sf.after_any(sf.after_processing_time("10ms"), sf.after_count(2)),
            late=sf.after_all(sf.after_processing_time("5ms"), sf.after_count(1)),
        ),
        allowed_lateness="4s",
        accumulation="retracting",
    )
    .aggregate(n=sf.count(), total=sf.sum("value"))
    .collect()
)

pieces = sf.Job("pieces")
_pieces = (
    read(pieces, events(10))
    .key_by("key")
    .window(
        sf.tumbling("4s"),
        trigger=sf.repeatedly(sf.after_each(sf.after_count(2), sf.after_processing_time("5ms"))),
        accumulation="discarding",
    )
    .aggregate(n=sf.count(), total=sf.sum("value"))
)
_pieces.key_by("window_start", "key").aggregate(n=sf.sum("n"), total=sf.sum("total")).collect()


class Reminders(sf.KeyedProcess):
    """How many events there have been, a second after the first of some, by the clock, and at the end."""

    seen = sf.ValueState(int, default=0)
    told = sf.ValueState(int, default=0)
    output: ClassVar[object] = {"all": pl.Int64, "n": pl.Int64}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        if self.seen.value() == self.told.value():
            ctx.set_processing_timer("1s")
            ctx.set_timer(START + 86_400_000_000)
        self.seen.update(self.seen.value() + 1)

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self.told.update(self.seen.value())
        ctx.emit({"all": 1, "n": self.seen.value()})


reminders = sf.Job("reminders")
_all = read(reminders).parallel(1).with_columns(all=pl.lit(1)).key_by("all")
_all.process(Reminders).parallel(1).collect()

patterns = sf.Job("patterns")
_rising = (
    sf.pattern("low", col("value") < 60)
    .then("middle", col("value").is_between(20, 80))
    .one_or_more()
    .until(col("value") == 50)
    .then("high", col("value") > 20 + sf.step("low").value)
    .within("30s")
)
_matches = read(patterns).key_by("key").match(_rising, after_match="skip_to_next")
_matches.collect()
_matches.timed_out.collect()

interval_join = sf.Job("interval-join")
_joined = read(interval_join, events(16)).join(
    read(interval_join, events(16, step=2, salt=5), bound="6s"), on="key", within=("-3s", "2s"), how="outer"
)
_joined.collect()
_joined.key_by("key").window(sf.tumbling("4s")).aggregate(n=sf.count(), total=sf.sum("value")).collect()

window_join = sf.Job("window-join")
_left, _right = read(window_join, events(16)), read(window_join, events(16, step=2, salt=5), bound="6s")
for _window in (sf.sliding("6s", every="3s"), sf.session(gap="3s")):
    _left.join(_right, on="key", window=_window, how="left").collect()

asof_join = sf.Job("asof-join")
_versions = read(asof_join, events(16, step=2, salt=5), bound="6s")
_at_the_time = read(asof_join, events(16)).join_asof(_versions, on="key", tolerance="9s")
_at_the_time.collect()
_names = asof_join.read(sf.MemorySource([{"key": key, "name": key.upper()} for key in KEYS[:4]]))
_at_the_time.join(_names.to_table("key"), how="left").collect()

changing_join = sf.Job("changing-join")
_most = read(changing_join, events(16)).key_by("key").aggregate(most=sf.max("value"))
_last = (
    read(changing_join, events(8, salt=5))
    .parallel(1)
    .to_table("key", versioned=True, deleted=col("value") < 20)
)
_most.join(_last.changes(), on="key", how="outer").collect()

JOBS = {
    job.name: job
    for job in (
        tumbling,
        sliding,
        sessions,
        totals,
        union,
        cascade,
        buckets,
        flushes,
        ordered,
        branches,
        late_sessions,
        patterns,
        interval_join,
        window_join,
        asof_join,
        changing_join,
    )
}

TRIGGERED = {job.name: job for job in (early_panes, pieces)}
"""Windows with triggers, whose lives take several times as long."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "late-sessions": {"late": "4s"},
    "early-panes": {"late": "4s"},
    "reminders": {"key": ["all"]},
}


def campaign(name: str, **options: Any) -> Campaign:
    """A job, ready to be run through seeds; with what has to be said of it."""
    return Campaign({**JOBS, **TRIGGERED, "reminders": reminders}[name], **_OPTIONS.get(name, {}), **options)


def on_workers(name: str, **odds: Any) -> Campaign:
    """The campaign of a job whose subtasks are in up to three processes beside the coordinator's."""
    return campaign(name, rows=12, processes=3, odds={"quiet": 0.05, **odds})
