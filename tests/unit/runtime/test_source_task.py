"""The source task from outside: order, watermarks per split, idleness on the virtual clock, stopping, failing."""

import asyncio
from typing import Any

import pytest

import streamflow as sf
from streamflow.testing import TestJob
from streamflow.time.timestamps import to_micros

NOW = to_micros("2030-01-01T00:00:00Z")
SECOND = 1_000_000


def reading(**watermark: Any) -> sf.Job:
    job = sf.Job("reading")
    events = sf.MemorySource([{"k": "a", "ts": 0}])
    job.read(
        events, event_time=sf.epoch("ts", unit="s"), watermark=sf.bounded_disorder(**watermark)
    ).collect()
    return job


def events(*seconds: int, k: str = "a") -> list[dict[str, Any]]:
    return [{"k": k, "ts": second} for second in seconds]


def mark(t: TestJob) -> int | None:
    """The source's watermark in seconds, None before there is one."""
    watermark = next(o.watermark for o in t.status().operators if o.operator == "read-1")
    return None if watermark is None else (watermark + 1) // SECOND


def test_pieces_of_a_split_stay_in_order() -> None:
    with TestJob(reading(), read_ahead=3) as t:
        for second in range(10):
            t.source().push(events(second))
        assert [row["ts"] for row in t.output().rows()] == list(range(10))


def test_the_watermark_follows_the_events_of_the_slowest_split() -> None:
    with TestJob(reading(bound="2s"), watermarks="job", splits=2) as t:
        t.source().push(events(100), split=0)
        assert mark(t) is None
        t.source().push(events(50), split=1)
        assert mark(t) == 48
        t.source().push(events(10), split=1)
        assert mark(t) == 48
        t.source().push(events(200), split=1)
        assert mark(t) == 98


def test_a_split_that_is_too_far_ahead_waits_for_the_slowest() -> None:
    with TestJob(reading(max_drift="10s"), watermarks="job", splits=2) as t:
        t.source().push(events(100), split=0)
        t.source().push(events(80), split=1)
        t.source().push(events(101), split=0)
        assert [row["ts"] for row in t.output().rows()] == [100, 80]
        t.source().push(events(89), split=1)
        assert [row["ts"] for row in t.output().rows()] == [100, 80, 89]
        t.source().push(events(90), split=1)
        assert [row["ts"] for row in t.output().rows()] == [100, 80, 89, 90, 101]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_source_that_is_too_far_ahead_waits_for_those_that_it_meets(parallelism: int) -> None:
    job = sf.Job("meeting")
    nothing = sf.MemorySource([{"k": "a", "ts": 0}])
    at = sf.epoch("ts", unit="s")
    ahead = job.read(nothing, event_time=at, watermark=sf.bounded_disorder(max_drift="10s")).named("ahead")
    behind = job.read(nothing, event_time=at, watermark=sf.bounded_disorder()).named("behind")
    apart = job.read(nothing, event_time=at, watermark=sf.bounded_disorder()).named("apart")
    met, _ = ahead.union(behind).collect(), apart.collect()
    with TestJob(job, watermarks="job", parallelism=parallelism) as t:
        t.source("apart").push(events(1))
        t.source("ahead").push(events(100))
        t.source("behind").push(events(80))
        t.source("ahead").push(events(101))
        t.source("behind").push(events(89))
        assert [row["ts"] for row in t.output(met).rows()] == [100, 80, 89]
        t.source("behind").push(events(90))
        assert [row["ts"] for row in t.output(met).rows()] == [100, 80, 89, 90, 101]
        t.source("behind").push(events(500))  # it has no limit itself
        assert [row["ts"] for row in t.output(met).rows()] == [100, 80, 89, 90, 101, 500]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_splits_that_are_quiet_keep_nobody_waiting(parallelism: int) -> None:
    job = reading(max_drift="10s", idle_after="5s")
    with TestJob(job, watermarks="job", splits=3, parallelism=parallelism) as t:
        t.source().push(events(100), split=0)
        t.source().push(events(50), split=1)  # the third never has an event
        t.source().push(events(101), split=0)
        assert sorted(row["ts"] for row in t.output().rows()) == [50, 100]
        t.advance_processing_time("6s")
        assert sorted(row["ts"] for row in t.output().rows()) == [50, 100, 101]


def test_a_split_that_ends_holds_nothing_back() -> None:
    with TestJob(reading(), watermarks="job", splits=2) as t:
        t.source().push(events(100), split=0)
        t.source().end(split=1)
        assert mark(t) == 100


def test_a_split_that_is_opened_when_another_has_ended_is_not_late() -> None:
    with TestJob(reading(), watermarks="job", splits=17) as t:  # 16 are read side by side
        for split in range(16):
            t.source().push(events(100), split=split)
        t.source().end(split=0)
        assert mark(t) is None
        t.source().push(events(50), split=16)
        assert mark(t) == 50


def test_a_quiet_split_is_left_out_after_its_time_and_counts_again_when_it_has_caught_up() -> None:
    with TestJob(reading(idle_after="10s"), watermarks="job", splits=2) as t:
        t.source().push(events(50), split=1).push(events(60), split=0)
        assert mark(t) == 50
        t.advance_processing_time("9s")
        t.source().push(events(100), split=0)
        assert mark(t) == 50
        t.advance_processing_time("1s")
        assert mark(t) == 100
        t.source().push(events(70), split=1).push(events(110), split=0)
        assert mark(t) == 110
        t.source().push(events(115), split=1).push(events(120), split=0)
        assert mark(t) == 115


def test_without_idle_after_a_quiet_split_holds_the_watermark_for_ever() -> None:
    with TestJob(reading(), watermarks="job", splits=2) as t:
        t.source().push(events(100), split=0)
        t.advance_processing_time("1h")
        assert mark(t) is None
        assert t.status().operators[0].held_back_by == "split-1"


def test_when_all_are_quiet_the_watermark_stays() -> None:
    with TestJob(reading(idle_after="10s"), watermarks="job", splits=2) as t:
        t.source().push(events(100), split=0).push(events(90), split=1)
        t.advance_processing_time("1h")
        assert mark(t) == 90  # what was quiet must not become late
        t.source().push(events(95), split=1)
        assert mark(t) == 95


def test_all_quiet_may_advance_with_processing_time() -> None:
    with TestJob(reading(idle_after="10s", advance_when_idle=True), watermarks="job") as t:
        t.source().push(events(100))
        t.advance_processing_time("10s")
        assert mark(t) == 100
        t.advance_processing_time("60s")
        assert mark(t) == 160
        t.source().push(events(150))
        assert mark(t) == 160
        t.source().push(events(170))
        assert mark(t) == 170


def test_an_event_too_far_in_the_future_does_not_move_the_watermark_and_is_counted() -> None:
    year_9999 = to_micros("9999-12-31T00:00:00Z") // SECOND
    with TestJob(reading(max_ahead="1h"), watermarks="job") as t:
        t.source().push(events(100, year_9999, 90))
        assert mark(t) == 100
        assert future_events(t) == 1
        limit = NOW // SECOND + 3600
        t.source().push(events(limit + 1))
        assert mark(t) == 100
        t.source().push(events(limit))
        assert mark(t) == limit
        assert future_events(t) == 2
        assert len(t.output().rows()) == 5  # they are data like any other


def future_events(t: TestJob) -> float:
    return t.metric("streamflow_future_events_total", "read-1")


def throttled() -> sf.Job:
    """A job whose second task takes `v` seconds for each record, so that the source is held back."""

    async def slowly(row: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(row["v"])
        return row

    job = sf.Job("throttled")
    stream = job.read(
        sf.MemorySource([{"v": 0, "ts": 0}]),
        event_time=sf.epoch("ts", unit="s"),
        watermark=sf.bounded_disorder(idle_after="10s"),
    )
    stream.map_async(slowly, capacity=1, timeout="1d").collect()
    return job


def test_a_source_that_is_held_back_is_not_idle() -> None:
    with TestJob(throttled(), watermarks="job", splits=2, channel_rows=1) as t:
        t.source().push([{"v": 0, "ts": 1}], split=1)
        for second, takes in ((100, 60), (101, 0), (102, 0), (103, 0)):
            t.source().push([{"v": takes, "ts": second}], split=0)
        # One is being worked on, the second waits for it, the third fills the channel, the source is stuck.
        t.advance_processing_time("59s")
        assert len(t.output().rows()) == 1
        assert mark(t) == 1
        t.advance_processing_time("6s")
        assert len(t.output().rows()) == 5
        t.source().push([{"v": 0, "ts": 104}], split=0)
        t.advance_processing_time("4s")
        # Split 1 has said nothing for 69 seconds, but for 60 of them nobody would have heard it.
        assert mark(t) == 1
        t.advance_processing_time("1s")
        assert mark(t) == 104


def test_a_quiet_split_turns_idle_beside_one_that_always_has_data() -> None:
    with TestJob(throttled(), watermarks="job", splits=2, channel_rows=1) as t:
        for second in range(100, 140):
            t.source().push([{"v": 1, "ts": second}], split=0)
        # A record a second, and forty are there at once: the source is never without one.
        t.advance_processing_time("20s")
        assert 10 < len(t.output().rows()) < 30
        assert (mark(t) or 0) > 100
        assert t.status().operators[0].held_back_by == "split-0"


def test_splits_that_ended_leave_the_source_to_the_others() -> None:
    with TestJob(reading(), splits=3) as t:
        t.source().end(split=0).end(split=2)
        t.source().push(events(7), split=1)
        assert len(t.output().rows()) == 1
        assert t.status().state == "running"
        t.source().end(split=1)
        assert t.status().state == "finished"


def windowed() -> sf.Job:
    job = sf.Job("windowed")
    stream = job.read(sf.MemorySource([{"k": "a", "ts": 0}]), event_time=sf.epoch("ts", unit="s"))
    stream.key_by("k").window(sf.tumbling("10s")).aggregate(n=sf.count()).collect()
    return job


@pytest.mark.parametrize("parallelism", [1, 2])
def test_stopping_without_drain_gives_no_result_for_open_windows(parallelism: int) -> None:
    with TestJob(windowed(), parallelism=parallelism) as t:
        t.source().push(events(1, 12)).advance_watermark(10 * SECOND)
        result = t.stop()
        assert [row["n"] for row in t.output().rows()] == [1]
        assert result.stopped


@pytest.mark.parametrize("parallelism", [1, 2])
def test_stopping_with_drain_closes_them(parallelism: int) -> None:
    with TestJob(windowed(), parallelism=parallelism) as t:
        t.source().push(events(1, 12)).advance_watermark(10 * SECOND)
        t.stop(drain=True)
        assert [row["n"] for row in t.output().rows()] == [1, 1]


@pytest.mark.parametrize("parallelism", [1, 3])
def test_the_first_failure_ends_the_job_with_the_original_error(parallelism: int) -> None:
    job = sf.Job("failing")
    stream = job.read(sf.MemorySource([{"k": "a", "n": 0}])).map(
        lambda row: {**row, "share": 100 // row["n"]},
        schema={"k": sf.String, "n": sf.Int64, "share": sf.Int64},
    )
    stream.key_by("k").aggregate(total=sf.sum("share")).collect()
    with TestJob(job, parallelism=parallelism) as t:
        t.source().push([{"k": "a", "n": 5}])
        with pytest.raises(sf.RecordError) as raised:
            t.source().push([{"k": "b", "n": 4}, {"k": "c", "n": 0}])
        assert "ZeroDivisionError" in str(raised.value)
        assert "operator map-1" in str(raised.value)
        assert "'k': 'c', 'n': 0" in str(raised.value)
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        assert t.status().state == "failed"
        with pytest.raises(sf.JobDefinitionError, match="the job has ended"):
            t.source().push([{"k": "a", "n": 5}])
