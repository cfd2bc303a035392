"""A task fed by several channels, seen from outside: whom it waits for, and when it says that it waits for nobody."""

from typing import Any, ClassVar

import pytest

import streamflow as sf
from streamflow.testing import TestJob
from streamflow.time.timestamps import to_micros


def two_levels() -> sf.Job:
    """c and (a and b): the second union has one channel from the first."""
    job = sf.Job("levels")
    a, b, c = (
        job.read(sf.MemorySource([{"ts": 0}]), event_time=sf.epoch("ts", unit="us")).named(name)
        for name in "abc"
    )
    both = a.union(b).named("inner").key_by("ts").window(sf.tumbling("10us")).aggregate(n=sf.count())
    c.select("ts").union(both.select("ts")).named("outer").collect()
    return job


def mark(t: TestJob, operator: str = "outer") -> int | None:
    return next(o.watermark for o in t.status().operators if o.operator == operator)


def test_watermarks_pass_from_level_to_level() -> None:
    with TestJob(two_levels()) as t:
        t.source("a").advance_watermark(50)
        t.source("c").advance_watermark(70)
        assert mark(t) is None
        t.source("b").advance_watermark(60)
        assert mark(t) == 50


def test_a_task_whose_inputs_are_all_idle_says_so() -> None:
    with TestJob(two_levels()) as t:
        t.source("a").advance_watermark(50).idle()
        t.source("c").advance_watermark(70)
        assert mark(t) is None
        t.source("b").idle()
        assert mark(t) == 70


def test_a_task_with_one_idle_and_one_ended_input_says_so_too() -> None:
    with TestJob(two_levels()) as t:
        t.source("a").advance_watermark(50).idle()
        t.source("c").advance_watermark(70)
        t.source("b").end()
        assert mark(t) == 70
        t.source("a").advance_watermark(90)
        t.source("c").advance_watermark(95)
        assert mark(t) == 90


def test_what_a_watermark_triggers_comes_before_it() -> None:
    with TestJob(two_levels(), parallelism=2) as t:
        t.source("a").push([{"ts": 5}])
        for name in "abc":
            t.source(name).advance_watermark(9)
        assert [row["ts"] for row in t.output().rows()] == [5]
        assert mark(t) == 9


def test_a_task_ends_when_all_of_its_inputs_have() -> None:
    with TestJob(two_levels()) as t:
        t.source("a").push([{"ts": 5}]).end()
        t.source("b").end()
        assert [row["ts"] for row in t.output().rows()] == [5]
        assert t.status().state == "running"
        t.source("c").end()
        assert t.status().state == "finished"


def test_an_input_that_returns_is_counted_although_nothing_of_it_has_been_put_out() -> None:
    with TestJob(two_levels()) as t:
        t.source("a").advance_watermark(90).idle()
        t.source("b").idle()
        t.source("c").advance_watermark(70)
        assert mark(t) == 70
        t.source("a").push([{"ts": 95}])  # lies in a window that is open
        t.source("c").advance_watermark(200)
        assert mark(t) == 90
        t.source("a").idle()
        assert mark(t) == 200


def test_a_task_that_puts_something_out_by_the_clock_is_idle_again_afterwards() -> None:
    class Later(sf.KeyedProcess):
        output: ClassVar[object] = {"k": sf.String}

        def on_event(self, event: dict[str, Any], ctx: Any) -> None:
            ctx.set_processing_timer("10s")

        def on_timer(self, timer: Any, ctx: Any) -> None:
            ctx.emit({"k": ctx.key})

    job = sf.Job("later")
    a, c = (
        job.read(sf.MemorySource([{"k": "", "ts": 0}]), event_time=sf.epoch("ts", unit="us")).named(name)
        for name in "ac"
    )
    a.key_by("k").process(Later).union(c.select("k")).named("outer").collect()
    with TestJob(job) as t:
        t.source("a").push([{"k": "x", "ts": 1}]).advance_watermark(5).idle()
        t.source("c").advance_watermark(70)
        assert mark(t) == 70
        t.advance_processing_time("10s")
        assert t.output().rows() == [{"k": "x"}]
        t.source("c").advance_watermark(80)
        assert mark(t) == 80


class Alarms(sf.KeyedProcess):
    """A row for each event, when event time has come to it."""

    rules = sf.BroadcastState(int, int)
    output: ClassVar[object] = {"k": sf.String, "at": sf.Int64}

    def on_event(self, event: dict[str, Any], ctx: Any) -> None:
        ctx.set_timer(ctx.timestamp)

    def on_timer(self, timer: Any, ctx: Any) -> None:
        ctx.emit({"k": ctx.key, "at": to_micros(timer.time)})

    def on_broadcast(self, event: Any, ctx: Any) -> None:
        self.rules.put(event["rule"], 1)


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("rules_timed", [False, True])
def test_an_input_without_event_time_holds_no_watermark_back(parallelism: int, rules_timed: bool) -> None:
    job = sf.Job("rules")
    events = job.read(sf.MemorySource([{"k": "", "ts": 0}]), event_time=sf.epoch("ts", unit="us"))
    rules = job.read(
        sf.MemorySource([{"rule": 0, "n": 0}]),
        event_time=sf.epoch("rule", unit="us") if rules_timed else None,
    )
    events.named("events").key_by("k").process(Alarms, broadcast=rules.named("rules")).collect()
    with TestJob(job, watermarks="job", parallelism=parallelism) as t:
        t.source("rules").push([{"rule": 1, "n": 1}])
        t.source("events").push([{"k": "a", "ts": 10}]).push([{"k": "b", "ts": 20}])
        assert [row["at"] for row in t.output().rows()] == ([] if rules_timed else [10])
        t.source("events").end()
        assert [row["at"] for row in t.output().rows()] == ([] if rules_timed else [10, 20])
        status = t.status()
        assert (status.watermark, status.ended) == ((0, False) if rules_timed else (None, True))
        assert [o.held_back_by for o in status.operators if o.operator == "rules"] == [
            "split-0" if rules_timed else None
        ]
