"""The watermark or the time that an operator says it waits for: the next result comes with it, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.cli.terminal.waits import explained
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import OperatorSpec
from streamflow.operators.contract.waiting import Waiting
from streamflow.operators.joins.as_of import AsOfJoin
from streamflow.operators.joins.changing import ChangingJoin
from streamflow.operators.joins.interval import IntervalJoin
from streamflow.operators.joins.sides import JoinSpec
from streamflow.operators.joins.table import TableJoin
from streamflow.operators.joins.window import WindowJoin
from streamflow.operators.sorting.deduplicate import DeduplicateSpec
from streamflow.operators.sorting.event_time import EventTimeSortSpec
from streamflow.operators.sorting.sort_rows import SortRowsSpec
from streamflow.operators.sorting.top_rows import TopRowsSpec
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.testing import OperatorHarness, TestClock, TestJob
from streamflow.time.timestamps import LATEST, MAX_TIME
from streamflow.windows.assigners import CountWindow, GlobalWindow, Session, Sliding, Tumbling
from tests.unit.operators.rows_gone_over import RowsGoneOver

RECORDS = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
ON: dict[str, Any] = {"left_keys": ("k",), "right_keys": ("k",)}


def windows(assigner: Any, **how: Any) -> WindowAggregateSpec:
    return WindowAggregateSpec(("k",), assigner, (("n", sf.count()),), **how)


@pytest.mark.parametrize(
    ("spec", "until", "what"),
    [
        (windows(Tumbling(10)), 9, "the window from 1970-01-01T00:00:00Z to 1970-01-01T00:00:00.000010Z"),
        (windows(Sliding(10, 5)), 9, "the window from"),
        (windows(Session(5)), 11, "a session that ends at 1970-01-01T00:00:00.000012Z"),
        (windows(GlobalWindow()), MAX_TIME, "the global window"),
        (WindowJoin(how="left", assigner=Tumbling(10), **ON), 9, "the window from"),
        (WindowJoin(how="left", assigner=Session(5), **ON), 11, "a session that ends at"),
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
    assert harness.waiting() == ()
    harness.watermark(0).push([{"k": "a", "v": 1}], times=[7])
    (waiting,) = harness.waiting()
    assert (waiting.until, waiting.rows) == (until, 1)
    assert waiting.what.startswith(what)
    harness.watermark(until - 1)
    assert harness.output() == []
    harness.watermark(until)
    assert len(harness.output()) == 1
    assert isinstance(spec.kind, str)
    if until < MAX_TIME and not isinstance(getattr(spec, "assigner", None), Sliding):
        assert harness.waiting() == ()


class Quarters(sf.WindowAssigner):
    """Windows of 8, as an own assigner has them."""

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        starts = times.to_physical() // 8 * 8
        return starts, starts + 8


class Stretches(Quarters):
    """Windows of 8 that begin at records, and become one where they intersect."""

    merging = True

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        return times.to_physical(), times.to_physical() + 8


EARLY = sf.after_watermark(early=sf.after_processing_time("4us"), late=sf.after_count(1))
BY_COUNT = sf.repeatedly(sf.after_count(3))
SPECS: dict[str, tuple[OperatorSpec, bool]] = {
    # The operators, each with whether a result is sure to come when its time has.
    "tumbling": (windows(Tumbling(10)), True),
    "late": (windows(Tumbling(10), allowed_lateness=7), True),
    "sliding": (windows(Sliding(10, 4)), True),
    "sessions": (windows(Session(5)), True),
    "late sessions": (windows(Session(5), allowed_lateness=7), True),
    "global": (windows(GlobalWindow()), True),
    "count": (windows(CountWindow(3, 3)), False),
    "own": (windows(Quarters()), True),
    "own that merge": (windows(Stretches()), True),
    "early": (windows(Tumbling(10), trigger=EARLY, allowed_lateness=7), True),
    "discarding": (windows(Sliding(10, 5), trigger=EARLY, accumulation="discarding"), True),
    "early sessions": (windows(Session(5), trigger=EARLY, allowed_lateness=7), True),
    "early own": (windows(Quarters(), trigger=EARLY), True),
    "early own that merge": (windows(Stretches(), trigger=EARLY), True),
    "by count": (windows(Tumbling(10), trigger=BY_COUNT, allowed_lateness=7), False),
    "each record": (windows(Tumbling(10), trigger=sf.repeatedly(sf.after_count(1))), True),
    "by count until the end": (
        windows(Tumbling(10), trigger=BY_COUNT.or_finally(sf.after_watermark())),
        True,
    ),
    "all": (windows(Tumbling(10), trigger=sf.after_all(sf.after_count(3), sf.after_watermark())), False),
    "by count or clock": (
        windows(
            GlobalWindow(),
            trigger=sf.repeatedly(sf.after_any(sf.after_count(3), sf.after_processing_time("4us"))),
        ),
        False,
    ),
    "never": (windows(Session(5), trigger=sf.never()), False),
    "window join": (WindowJoin(how="outer", assigner=Tumbling(10), **ON), True),
    "join by own windows": (WindowJoin(how="outer", assigner=Quarters(), **ON), True),
    "session join": (WindowJoin(how="outer", assigner=Session(5), **ON), True),
    "interval join": (IntervalJoin(how="left", lower=-3, upper=4, **ON), False),
    "as-of join": (AsOfJoin(how="left", **ON), True),
    "sort": (EventTimeSortSpec(record_columns=("k", "v")), True),
    "first": (DeduplicateSpec(keys=("k",), record_columns=("k", "v"), within=6), False),
    "last": (DeduplicateSpec(keys=("k",), record_columns=("k", "v"), within=6, keep="last"), True),
}


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("seed", range(2))
def test_nothing_comes_before_what_an_operator_waits_for(kind: str, seed: int) -> None:
    spec, sure = SPECS[kind]
    random = Random(f"{kind} {seed}")
    inputs = [RECORDS] * (2 if isinstance(spec, JoinSpec) else 1)
    parallelism = 1 if kind == "sort" else random.choice([1, 3])
    clock = TestClock(0)
    harness = OperatorHarness(spec, *inputs, clock=clock, parallelism=parallelism)
    mark = 0
    if random.random() < 0.5:
        harness.watermark(mark)
    elif isinstance(spec, WindowAggregateSpec) and isinstance(spec.assigner, Session):
        sure = False  # of fragments that come before the first watermark only the earliest time is known
    for _ in range(random.randint(1, 9)):
        match random.choice(["push", "push", "push", "watermark", "clock"]):
            case "push":
                times = [mark + random.randint(-4, 12) for _ in range(random.randint(1, 4))]
                records = [{"k": random.choice("ab"), "v": random.randint(1, 9)} for _ in times]
                harness.push(records, times=times, port=random.randrange(len(inputs)))
            case "watermark":
                mark += random.randint(0, 7)
                harness.watermark(mark)
            case _:
                clock.advance(timedelta(microseconds=random.randint(1, 3)))
                harness.tick()
    now, saved = clock.now(), harness.snapshot()

    def continued(at: int = now) -> OperatorHarness:
        """The operator as it is now, restored from a snapshot at a time of the clock, in another number of subtasks."""
        harness = OperatorHarness(spec, *inputs, clock=TestClock(at), parallelism=1 if kind == "sort" else 2)
        return harness.restore(saved)

    def untils(waits: Sequence[Waiting]) -> list[tuple[int, bool]]:
        return [(each.until, each.by_clock) for each in waits]

    assert untils(continued().waiting()) == untils(harness.waiting())
    for wait in harness.waiting():
        before, then = (
            continued(until).tick() if wait.by_clock else continued().watermark(until)
            for until in (min(wait.until, LATEST) - 1, wait.until)
        )
        assert before.output() == []
        assert then.output() or not sure
    if not harness.waiting():
        assert continued().finish().output() == []


@pytest.mark.parametrize("ordered", [True, False])
def test_the_first_request_without_an_answer_is_told_with_all_that_wait_behind_it(ordered: bool) -> None:
    async def ask(row: dict[str, Any]) -> dict[str, Any]:
        if row["k"] == "slow":
            await asyncio.Event().wait()
        return row

    job = sf.Job("asks")
    rows = job.read(sf.MemorySource([{"k": "a", "ts": 0}]), event_time=sf.epoch("ts", unit="s"))
    rows.map_async(ask, ordered=ordered, timeout="1h").named("ask").collect()
    with TestJob(job, watermarks="job") as test:
        test.source().push([{"k": k, "ts": ts} for ts, k in enumerate(["a", "slow", "b", "c"])])
        test.advance_processing_time("12s")
        (wait,) = test.why()
        assert len(test.output().new_rows()) == (1 if ordered else 3)
    told = "the request for {'k': 'slow', 'ts': 1} of 1970-01-01T00:00:01Z"
    assert (wait.operator, wait.what, wait.rows) == ("ask", told, 3 if ordered else 1)
    assert " ".join(explained(wait, None, 1).split()).startswith(f"ask: {told} has been under way for 12 s.")


MANY = 3_000


LOOKING_UP = ["early", "by count or clock", "own that merge", "early sessions", "session join", "last"]


@pytest.mark.parametrize("kind", LOOKING_UP)
def test_asking_looks_up_a_few_of_many_keys(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _ = SPECS[kind]
    clock = TestClock(0)
    inputs = [RECORDS] * (2 if isinstance(spec, JoinSpec) else 1)
    harness = OperatorHarness(spec, *inputs, clock=clock).watermark(0)
    # Most of what waits has been replaced since, or has fired.
    for time in range(3, 8, 2):
        records = [{"k": f"key {n}", "v": n} for n in range(MANY)]
        harness.push(records, times=[time] * MANY)
        clock.advance(timedelta(microseconds=1))
    gone_over = RowsGoneOver(monkeypatch)
    waits = harness.waiting()
    assert waits
    assert gone_over.count < 100
    emitted = len(harness.output())
    for wait in waits:
        if not wait.by_clock:
            assert len(harness.watermark(min(wait.until, LATEST) - 1).output()) == emitted
        elif wait.until - 1 > clock.now():
            clock.advance(timedelta(microseconds=wait.until - 1 - clock.now()))
            assert len(harness.tick().output()) == emitted


def test_a_join_says_nothing_of_rows_that_cannot_come_out_alone() -> None:
    harness = OperatorHarness(IntervalJoin(lower=-3, upper=4, **ON), RECORDS, RECORDS)
    harness.watermark(0).push([{"k": "a", "v": 1}], times=[7])
    assert harness.waiting() == ()


@pytest.mark.parametrize(
    "spec",
    [
        SortRowsSpec(by=("v",), descending=(False,), nulls_last=False, record_columns=("k", "v")),
        TopRowsSpec(keys=("k",), n=1, by=(("v", True),), record_columns=("k", "v")),
        ChangingJoin(how="left", **ON),
        TableJoin(how="left", bounded=True, **ON),
    ],
    ids=lambda spec: spec.kind,
)
def test_in_batch_results_of_all_records_wait_for_the_end_of_the_input(spec: OperatorSpec) -> None:
    harness = OperatorHarness(spec, *[RECORDS] * (2 if isinstance(spec, JoinSpec) else 1), updates="end")
    assert harness.waiting() == ()
    harness.push([{"k": "a", "v": 1}], times=[7]).watermark(60)
    (waiting,) = harness.waiting()
    assert waiting.until == MAX_TIME
    assert harness.output() == []
    assert len(harness.finish().output()) == 1
    assert harness.waiting() == ()


class Alarm(sf.KeyedProcess):
    """Sets a timer of processing time with each event."""

    def on_event(self, event: Any, ctx: sf.ProcessContext) -> None:
        ctx.set_processing_timer(timedelta(seconds=5))

    def on_timer(self, timer: sf.Timer, ctx: sf.ProcessContext) -> None:
        ctx.emit({"k": ctx.key})


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
        case "alarm":
            return job, keyed.process(Alarm)
        case "early":
            trigger = sf.after_watermark(early=sf.after_processing_time("5s"))
            return job, keyed.window(sf.tumbling("10s"), trigger=trigger).count()
        case "last":
            return job, rows.deduplicate("k", within="6s", keep="last")
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
        ("early", 9_999_999, "the window from"),
        ("last", 8_999_999, "the last record of a key up to 1970-01-01T00:00:08.999999Z"),
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


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("early", "an early pane of the window from 1970-01-01T00:00:00Z to 1970-01-01T00:00:10Z"),
        ("alarm", "a timer of processing time"),
    ],
)
def test_a_running_job_says_what_waits_for_the_clock(kind: str, what: str) -> None:
    job, stream = job_of(kind)
    stream.named("operator").collect()
    with TestJob(job, watermarks="job") as test:
        began = test.clock.now()
        test.source().push([{"k": "a", "ts": 7, "v": 1}])
        test.advance_processing_time("2s")
        (wait,) = [each for each in test.why() if each.clock is not None]
        assert (wait.operator, wait.what) == ("operator", what)
        assert (wait.until, wait.clock) == (began + 5_000_000, began + 2_000_000)
        assert (wait.source, wait.split) == (None, None)
        assert explained(wait, None, 1).startswith(f"operator: {what} comes at")
        assert "by the clock, in 3.0 s." in " ".join(explained(wait, None, 1).split())
        assert test.output().new_rows() == []
        test.advance_processing_time("3s")
        assert len(test.output().new_rows()) == 1
        assert all(each.clock is None for each in test.why())
