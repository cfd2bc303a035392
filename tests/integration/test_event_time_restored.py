"""Event time after a restore: it never goes back, and an input without which the others went on is not waited for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

import streamflow as sf
from streamflow.testing import TestJob

SECOND = 1_000_000
FIELDS = {"k": sf.String, "ts": sf.Int64}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PARALLELISMS = [(1, 1), (2, 2), (2, 1), (1, 2), (1, 3)]


class Told(sf.KeyedProcess):
    """A process's view of event time: in each event, and in a timer five seconds after it."""

    output: ClassVar = {"k": sf.String, "what": sf.String, "at": sf.Int64, "watermark": sf.Float64}

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        self.tell("event", event["ts"], ctx)
        ctx.set_timer(timedelta(seconds=5))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        self.tell("timer", round((timer.time - EPOCH).total_seconds()), ctx)

    def tell(self, what: str, at: int, ctx: sf.ProcessContext) -> None:
        reached = None if ctx.watermark is None else (ctx.watermark - EPOCH).total_seconds()
        ctx.emit({"k": ctx.key, "what": what, "at": at, "watermark": reached})


def read(job: sf.Job, name: str, watermark: Any = None) -> sf.Stream:
    source = sf.MemorySource([{"k": "a", "ts": 0}], schema=FIELDS)
    more = {} if watermark is None else {"watermark": watermark}
    return job.read(source, event_time=sf.epoch("ts", unit="s"), **more).named(name)


def the_job(kind: str) -> sf.Job:
    job = sf.Job("restored")
    stream = read(job, "one")
    match kind:
        case "process":
            stream.key_by("k").process(Told).named("told").collect()
        case "process in order":
            stream.key_by("k").process(Told, order="event_time").named("told").collect()
        case "process behind process":
            first = stream.key_by("k").process(Told).named("first")
            first.select("k", ts=sf.col("at")).key_by("k").process(Told).named("second").collect()
        case "window":
            stream.key_by("k").window(sf.tumbling("5s")).aggregate(n=sf.count()).named("windows").collect()
        case _:
            mapped = stream.map(lambda row: row, schema=FIELDS)
            mapped.key_by("k").window(sf.session(gap="2s")).aggregate(n=sf.count()).named("w").collect()
    return job


def run(kind: str, parallelism: int, restored: int | None) -> list[str]:
    """The rows of a run in which one of two splits falls quiet and returns later; `restored`: crashed in between, and
    restored at that parallelism."""
    with TestJob(the_job(kind), splits=2, parallelism=parallelism) as t:
        source = t.source()
        source.push([{"k": "a", "ts": 1}], split=0).push([{"k": "b", "ts": 2}], split=1)
        source.advance_watermark(3 * SECOND, split=1).idle(split=1)
        source.push([{"k": "c", "ts": 98}], split=0).advance_watermark(100 * SECOND, split=0)
        if restored is not None:
            t.checkpoint().crash().restore(parallelism=restored)
        source.push([{"k": "a", "ts": 50}, {"k": "a", "ts": 101}], split=0)  # the first is late
        source.advance_watermark(102 * SECOND, split=0)
        # The quiet split returns, far behind: what it sends is late, and nobody waits for it.
        source.push([{"k": "b", "ts": 60}], split=1).advance_watermark(61 * SECOND, split=1)
        source.push([{"k": "c", "ts": 110}], split=0).advance_watermark(120 * SECOND, split=0)
        # It has caught up, and counts.
        source.push([{"k": "b", "ts": 121}], split=1).advance_watermark(122 * SECOND, split=1)
        source.push([{"k": "c", "ts": 130}], split=0).advance_watermark(140 * SECOND, split=0)
        source.push([{"k": "b", "ts": 123}], split=1).advance_watermark(141 * SECOND, split=1)
        return sorted(map(str, t.output().rows()))


@pytest.mark.parametrize(("parallelism", "restored"), PARALLELISMS)
@pytest.mark.parametrize(
    "kind", ["process", "process in order", "process behind process", "window", "window behind a function"]
)
def test_a_restore_while_an_input_is_idle_changes_nothing(kind: str, parallelism: int, restored: int) -> None:
    assert run(kind, parallelism, restored) == run(kind, parallelism, None)


def union_of_two() -> sf.Job:
    job = sf.Job("union")
    read(job, "busy").union(read(job, "quiet")).key_by("k").process(Told).named("told").collect()
    return job


@pytest.mark.parametrize(("parallelism", "restored"), PARALLELISMS)
def test_nor_does_one_while_one_of_two_streams_is_idle(parallelism: int, restored: int) -> None:
    def rows(crashed: bool) -> list[str]:
        with TestJob(union_of_two(), parallelism=parallelism) as t:
            busy, quiet = t.source("busy"), t.source("quiet")
            quiet.push([{"k": "q", "ts": 1}]).advance_watermark(2 * SECOND).idle()
            busy.push([{"k": "b", "ts": 99}]).advance_watermark(100 * SECOND)
            if crashed:
                t.checkpoint().crash().restore(parallelism=restored)
            busy.push([{"k": "b", "ts": 40}]).advance_watermark(101 * SECOND)
            quiet.push([{"k": "q", "ts": 3}]).advance_watermark(4 * SECOND)
            busy.push([{"k": "b", "ts": 110}]).advance_watermark(120 * SECOND)
            quiet.push([{"k": "q", "ts": 125}]).advance_watermark(126 * SECOND)
            busy.push([{"k": "b", "ts": 127}]).advance_watermark(128 * SECOND)
            return sorted(map(str, t.output().rows()))

    assert rows(crashed=True) == rows(crashed=False)


def reached(rows: list[Any]) -> list[float]:
    return [-1.0 if row["watermark"] is None else row["watermark"] for row in rows]


@pytest.mark.parametrize(("parallelism", "restored"), PARALLELISMS)
def test_an_input_that_has_returned_and_not_caught_up_holds_nothing_back_after_a_restore(
    parallelism: int, restored: int
) -> None:
    with TestJob(the_job("process"), splits=2, parallelism=parallelism) as t:
        source = t.source()
        source.push([{"k": "a", "ts": 1}], split=0).advance_watermark(3 * SECOND, split=1).idle(split=1)
        source.advance_watermark(100 * SECOND, split=0)
        source.push([{"k": "b", "ts": 4}], split=1).advance_watermark(5 * SECOND, split=1)
        t.checkpoint().crash().restore(parallelism=restored)
        for lagging, ahead in [(6, 110), (7, 120), (8, 130)]:
            source.push([{"k": "b", "ts": lagging}], split=1)
            source.advance_watermark(lagging * SECOND, split=1)
            source.advance_watermark(ahead * SECOND, split=0)
        source.push([{"k": "a", "ts": 135}], split=0).advance_watermark(140 * SECOND, split=0)
        rows = t.output().rows()
        assert [row["at"] for row in rows if row["k"] == "a"] == [1, 6, 135, 140]
        seen = reached([row for row in rows if row["k"] == "b" and row["what"] == "event"])
        assert seen[0] == 100.0  # before the crash
        assert min(seen[1:]) >= 100.0


@pytest.mark.parametrize("restored", [1, 2])
def test_a_split_is_quiet_for_as_long_again_before_nobody_waits_for_it(restored: int) -> None:
    job = sf.Job("quiet")
    stream = read(job, "one", sf.bounded_disorder("0s", idle_after="10s"))
    stream.key_by("k").process(Told).named("told").collect()
    with TestJob(job, splits=2, parallelism=1, watermarks="job") as t:
        source = t.source()
        source.push([{"k": "b", "ts": 1}], split=1).push([{"k": "a", "ts": 50}], split=0)
        t.advance_processing_time("11s")
        source.push([{"k": "a", "ts": 100}], split=0)
        before = t.output().rows()
        t.checkpoint().crash().restore(parallelism=restored)
        # What it had sent meanwhile would come at once: it is heard before the others go on.
        source.push([{"k": "a", "ts": 200}], split=0)
        t.advance_processing_time("6s")
        source.push([{"k": "a", "ts": 300}], split=0)
        held = t.output().rows()[len(before) :]
        assert [(row["what"], row["at"]) for row in held] == [("event", 200), ("event", 300)]
        assert min(reached(held)) >= 99.9
        t.advance_processing_time("6s")
        assert [row["at"] for row in t.output().rows() if row["what"] == "timer"] == [6, 55, 105, 205]


def test_a_split_that_was_never_read_holds_event_time_where_it_was() -> None:
    with TestJob(the_job("process"), splits=2, parallelism=1) as t:
        source = t.source()
        source.push([{"k": "a", "ts": 1}], split=0).idle(split=1).advance_watermark(100 * SECOND, split=0)
        t.checkpoint().crash().restore()
        source.push([{"k": "a", "ts": 50}], split=0).advance_watermark(110 * SECOND, split=0)
        assert [(row["at"], row["watermark"]) for row in t.output().rows()] == [
            (1, None),
            (6, 6.0),
            (50, 100.0),
            (55, 100.0),
        ]
