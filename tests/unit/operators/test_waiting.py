"""The watermark that an operator says it waits for: the next result comes with it, and not before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import OperatorSpec
from streamflow.operators.joins.as_of import AsOfJoin
from streamflow.operators.joins.interval import IntervalJoin
from streamflow.operators.joins.window import WindowJoin
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.testing import OperatorHarness
from streamflow.time.timestamps import MAX_TIME
from streamflow.windows.assigners import GlobalWindow, Session, Sliding, Tumbling

RECORDS = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
ON: dict[str, Any] = {"left_keys": ("k",), "right_keys": ("k",)}


def windows(assigner: Any) -> WindowAggregateSpec:
    return WindowAggregateSpec(("k",), assigner, (("n", sf.count()),), 0, "accumulating", False)


@pytest.mark.parametrize(
    ("spec", "until", "what"),
    [
        (windows(Tumbling(10)), 9, "the window from 1970-01-01T00:00:00Z to 1970-01-01T00:00:00.000010Z"),
        (windows(Sliding(10, 5)), 9, "the window from"),
        (windows(Session(5)), 11, "a session that ends at 1970-01-01T00:00:00.000012Z"),
        (windows(GlobalWindow()), MAX_TIME, "the global window"),
        (WindowJoin(how="left", assigner=Tumbling(10), **ON), 9, "the window from"),
        (IntervalJoin(how="left", lower=-3, upper=4, **ON), 11, "the left's row of"),
        (AsOfJoin(how="left", **ON), 7, "the left's row of"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_next_result_comes_with_the_watermark_that_it_waits_for(
    spec: OperatorSpec, until: int, what: str
) -> None:
    inputs = (RECORDS,) if isinstance(spec, WindowAggregateSpec) else (RECORDS, RECORDS)
    harness = OperatorHarness(spec, *inputs)
    assert harness.waiting() is None
    harness.watermark(0).push([{"k": "a", "v": 1}], times=[7])
    waiting = harness.waiting()
    assert waiting is not None
    assert (waiting.until, waiting.rows) == (until, 1)
    assert waiting.what.startswith(what)
    harness.watermark(until - 1)
    assert harness.output() == []
    harness.watermark(until)
    assert len(harness.output()) == 1
    assert isinstance(spec.kind, str)
    if until < MAX_TIME and not isinstance(getattr(spec, "assigner", None), Sliding):
        assert harness.waiting() is None


def test_a_join_says_nothing_of_rows_that_cannot_come_out_alone() -> None:
    harness = OperatorHarness(IntervalJoin(lower=-3, upper=4, **ON), RECORDS, RECORDS)
    harness.watermark(0).push([{"k": "a", "v": 1}], times=[7])
    assert harness.waiting() is None


class Reminder(sf.KeyedProcess):
    """Sets a timer with each event."""

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.set_timer(timedelta(seconds=5))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        ctx.emit({"k": ctx.key})


def job_of(kind: str) -> tuple[sf.Job, sf.Stream]:
    """A job with one operator of this kind."""
    job = sf.Job("waits")
    rows = job.read(
        sf.MemorySource([{"k": "a", "ts": 0, "v": 0}]),
        event_time=sf.epoch("ts", unit="s"),
        watermark=sf.bounded_disorder("4s", idle_after="1m"),
    ).named("clicks")
    keyed = rows.key_by("k")
    match kind:
        case "timer":
            return job, keyed.process(Reminder)
        case "order":
            return job, keyed.process(Reminder, order="event_time")
        case "sort":
            return job, rows.sort("event_time")
        case "pattern":
            pattern = sf.pattern("low", col("v") < 10).then("high", col("v") > 90).within("30s")
            return job, keyed.match(pattern)
        case _:
            return job, keyed.window(sf.tumbling("10s")).count()


@pytest.mark.parametrize(
    ("kind", "until", "what"),
    [
        ("window", 9_999_999, "the window from"),
        ("timer", 8_000_000, "a timer set for 1970-01-01T00:00:08Z"),
        ("order", 3_000_000, "an event of 1970-01-01T00:00:03Z"),
        ("sort", 3_000_000, "the record of 1970-01-01T00:00:03Z"),
        ("pattern", 7_000_000, "an event of"),
    ],
)
@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_running_job_names_the_split_that_holds_a_result_back(
    kind: str, until: int, what: str, parallelism: int
) -> None:
    from streamflow.testing import TestJob

    job, stream = job_of(kind)
    stream.named("operator").collect()
    with TestJob(job, watermarks="job", splits=2, parallelism=parallelism) as test:
        test.source().push([{"k": "a", "ts": 7, "v": 1}], split=0)
        test.source().push([{"k": "b", "ts": 3, "v": 50}], split=1)
        (wait,) = [each for each in test.why() if each.what.startswith(what)]
    assert (wait.operator, wait.until) == ("operator", until)
    assert (wait.source, wait.latest, wait.bound) == ("clicks", 3_000_000, 4_000_000)
    assert wait.idle_after == 60_000_000
    assert wait.split is not None
