"""A task fed by several channels, seen from outside: whom it waits for, and when it says that it waits for nobody."""

import streamflow as sf
from streamflow.testing import TestJob
from streamflow.time.timestamps import MIN_TIME


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
    watermark = next(o.watermark for o in t.status().operators if o.operator == operator)
    return None if watermark == MIN_TIME else watermark


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
