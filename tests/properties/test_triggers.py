"""Windows with random triggers against their definition: every pane, with timing, index, first and last; every record
that is dropped; over restores at other parallelism."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamflow as sf
from streamflow.core.schema import Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.testing import OperatorHarness
from streamflow.time.timestamps import MAX_TIME
from streamflow.windows import triggers as tr
from streamflow.windows.assigners import Cumulative, GlobalWindow, Session, Sliding, Tumbling
from streamflow.windows.triggers import Trigger
from tests.properties.job_model import Event, same, share
from tests.properties.trigger_jobs import searched
from tests.properties.trigger_model import Assigned, TriggeredModel, rows_of, triggers

RECORDS = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
AGGREGATES = (("n", sf.count()), ("total", sf.sum("v")))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

assigners: st.SearchStrategy[Assigned] = st.sampled_from(
    [
        Tumbling(10),
        Tumbling(4, 1),
        Sliding(10, 5),
        Sliding(7, 3),
        Sliding(3, 10),
        Cumulative(12, 4),
        GlobalWindow(),
    ]
)
sessions = st.builds(Session, st.integers(2, 6))
event = st.builds(Event, st.sampled_from("abcd"), st.integers(0, 30), st.integers(-9, 9))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.lists(event, min_size=1, max_size=5)),
        st.tuples(st.just("batch"), st.lists(event, min_size=1, max_size=5)),
        st.tuples(st.just("watermark"), st.integers(0, 40)),
        st.tuples(st.just("clock"), st.integers(1, 3)),
        st.tuples(st.just("restore"), st.integers(1, 3)),
    ),
    max_size=12,
)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def check(assigner: Assigned, trigger: Trigger, lateness: int, accumulation: Any, script: Any) -> None:
    spec = WindowAggregateSpec(
        keys=("k",),
        assigner=assigner,
        aggregates=AGGREGATES,
        trigger=trigger,
        allowed_lateness=lateness,
        accumulation=accumulation,
        pane_info=True,
    )
    harness = OperatorHarness(spec, RECORDS, reads=())
    model = TriggeredModel(assigner, trigger, lateness, accumulation, now=harness.clock.now())
    reached = -1
    whole: list[tuple[str, Any]] = [*script, ("watermark", MAX_TIME)]
    for step, value in whole:
        match step:
            case "batch":
                harness.push([{"k": e.key, "v": e.value} for e in value], times=[e.ts for e in value])
                model.batch(value)
            case "watermark":
                reached = max(reached, value)
                harness.watermark(reached)
                model.advance(reached)
            case "clock":
                harness.clock.advance(f"{value}s")
                harness.tick()
                model.clock(harness.clock.now())
            case _:
                harness.restore(harness.snapshot(), parallelism=value)
    assert same(rows_of(harness.output(), micros), model.fired)
    assert harness.metrics.late_dropped.value == len(model.late) + model.refused


def test_random_jobs_with_triggers_give_what_they_have_to(tmp_path: Path) -> None:
    """`make reliability` tries five thousand."""
    for seed in range(8):
        wrong = searched(seed, tmp_path / str(seed))
        assert wrong is None, wrong


@pytest.mark.parametrize("accumulation", ["accumulating", "discarding", "retracting"])
@share(2)
@given(assigner=assigners, trigger=triggers(), lateness=st.sampled_from([0, 5, 100]), script=steps)
def test_every_pane_is_that_of_the_definition(
    assigner: Assigned, trigger: Trigger, lateness: int, accumulation: Any, script: Any
) -> None:
    check(assigner, trigger, lateness, accumulation, script)


@pytest.mark.parametrize("accumulation", ["accumulating", "discarding", "retracting"])
@share(2)
@given(assigner=sessions, trigger=triggers(), lateness=st.sampled_from([0, 5, 100]), script=steps)
def test_so_it_is_for_windows_that_merge(
    assigner: Session, trigger: Trigger, lateness: int, accumulation: Any, script: Any
) -> None:
    check(assigner, trigger, lateness, accumulation, script)


def test_records_that_a_finished_trigger_refused_count_in_no_window_that_it_becomes_part_of() -> None:
    """Found by random jobs: the last record is the first one of the window of all."""
    trigger = tr.OrFinally(tr.never(), tr.AfterCount(2))
    batches = [("batch", [Event("a", time, 1)]) for time in (2, 0, 2, 5)]
    check(Session(5), trigger, 100, "accumulating", batches)


def test_a_window_that_is_gone_over_for_the_sake_of_others_stays_as_it_is() -> None:
    """Found by crashes of random jobs: after a restore all windows are gone over."""
    script = [("batch", [Event("a", 0, 1)]), ("watermark", 4), ("restore", 2), ("watermark", 6)]
    late = [("batch", [Event("a", time, 1)]) for time in (1, 2)]
    trigger = tr.AfterEach((tr.AfterWatermark(), tr.AfterWatermark()))
    check(Tumbling(4), trigger, 100, "accumulating", [*script, *late])
