"""Windows with more keys than fit: what comes out is the same, some keys at a time."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.schema import EVENT_TIME, EVENT_TIME_TYPE, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.operator import OperatorSpec
from streamflow.operators.totals.running import RunningAggregateSpec
from streamflow.operators.windows import sliced as sliced_windows
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.testing import OperatorHarness, difference, final_rows
from streamflow.windows.assigners import (
    Assigner,
    CountWindow,
    Cumulative,
    GlobalWindow,
    Session,
    Sliding,
    Tumbling,
)

RECORDS = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
AGGREGATES = (("n", sf.count()), ("total", sf.sum("v")), ("first", sf.first("v")))
KEYS = 600
LITTLE = 200_000
LESS = 25_000
"""For windows that keep little: a row of each key, or none of what has fired."""


def records(count: int, *, keys: int, time: int, salt: int = 0) -> pl.DataFrame:
    at = pl.int_range(count)
    return pl.select(
        pl.format("key-{}", (at * 7 + salt) % keys).alias("k"),
        (at + salt).alias("v"),
        (time + at % 10).cast(pl.Int64).cast(EVENT_TIME_TYPE).alias(EVENT_TIME),
    )


def put_out(harness: OperatorHarness) -> pl.DataFrame:
    frames = [batch.frame for batch in harness.outputs["main"].batches]  # type: ignore[union-attr]
    whole = pl.concat(frames)
    return whole.sort(whole.columns)


def driven(spec: OperatorSpec, budget: int, *, keys: int = KEYS, **more: Any) -> OperatorHarness:
    harness = OperatorHarness(spec, RECORDS, memory_budget=budget, **more)
    for number in range(4):
        harness.push(records(keys, keys=keys, time=number * 10, salt=number))
    harness.watermark(19)
    harness.push(records(50, keys=keys, time=12, salt=3)).push(records(keys, keys=keys, time=50))
    harness.watermark(55)
    return harness.finish()


@pytest.mark.parametrize(
    ("lateness", "accumulation"),
    [(0, "accumulating"), (100, "accumulating"), (100, "discarding"), (100, "retracting")],
)
@pytest.mark.parametrize(
    "assigner",
    [
        Tumbling(10),
        Sliding(20, 10),
        Sliding(25, 10),
        Cumulative(30, 10),
        Session(15),
        CountWindow(3, 3),
        CountWindow(4, 2),
        GlobalWindow(),
    ],
    ids=str,
)
def test_results_do_not_depend_on_the_memory_that_there_is(
    assigner: Assigner, lateness: int, accumulation: Any
) -> None:
    spec = WindowAggregateSpec(
        keys=("k",),
        assigner=assigner,
        aggregates=AGGREGATES,
        allowed_lateness=0 if isinstance(assigner, CountWindow) else lateness,
        accumulation=accumulation,
        pane_info=lateness > 0,
    )
    kept = not isinstance(assigner, GlobalWindow) and (lateness or isinstance(assigner, CountWindow))
    ample, scarce = driven(spec, 1 << 28), driven(spec, LITTLE if kept else LESS)
    assert put_out(ample).equals(put_out(scarce))
    assert ample.metrics.late_dropped.value == scarce.metrics.late_dropped.value


@pytest.mark.parametrize("updates", ["batch", "epoch", "end"])
def test_nor_do_totals(updates: Any) -> None:
    spec = RunningAggregateSpec(keys=("k",), aggregates=AGGREGATES)
    ample, scarce = driven(spec, 1 << 28, updates=updates), driven(spec, LITTLE, updates=updates)
    assert difference(final_rows(ample.output()), final_rows(scarce.output())) == ""


@pytest.mark.parametrize("assigner", [Tumbling(10), GlobalWindow()], ids=str)
def test_a_large_window_comes_in_several_batches_each_in_order(
    assigner: Assigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliced_windows, "_ENOUGH_ROWS", 100)
    spec = WindowAggregateSpec(keys=("k",), assigner=assigner, aggregates=AGGREGATES)
    scarce = driven(spec, 300_000, keys=2 * KEYS)
    batches = scarce.outputs["main"].batches
    windows = 1 if isinstance(assigner, GlobalWindow) else 5
    assert len(batches) >= 2 * windows
    assert max(len(batch) for batch in batches) < 2 * KEYS
    for batch in batches:
        keys = [row["k"] for row in batch.frame.to_dicts()]  # type: ignore[union-attr]
        assert keys == sorted(keys)
