"""Every operator that keeps state, stopped and restored between any two elements, at one parallelism and at others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streamflow as sf
from streamflow.core.schema import Schema
from streamflow.core.serde import pack, unpack
from streamflow.core.stream_type import StreamType
from streamflow.operators.totals.running import RunningAggregateSpec
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.testing import OperatorHarness, check_snapshots, final_rows
from streamflow.windows.assigners import (
    Assigner,
    Calendar,
    CountWindow,
    Cumulative,
    GlobalWindow,
    Session,
    Sliding,
    Tumbling,
)

RECORDS = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
AGGREGATES = (("n", sf.count()), ("total", sf.sum("v")), ("values", sf.collect_list("v")))
WINDOWS: list[Assigner] = [
    Tumbling(10),
    Sliding(10, 5),
    Sliding(7, 3),
    Sliding(3, 10),
    Cumulative(12, 4),
    Calendar("1d", "Europe/Berlin"),
    Session(5),
    CountWindow(3, 3),
    CountWindow(5, 2),
    GlobalWindow(),
]

Batch = list[tuple[str, int]]
"""(key, time) of records."""


def script(batches: list[Batch], watermarks: list[int], pause: str | None = None) -> Any:
    """Batches, each followed by a pause of the clock, if one is given, a watermark and an epoch."""

    def run(harness: OperatorHarness) -> None:
        for number, batch in enumerate(batches):
            rows = [{"k": key, "v": number * 100 + at} for at, (key, _) in enumerate(batch)]
            harness.push(rows, times=[time for _, time in batch])
            if pause is not None:
                harness.clock.advance(pause)
                harness.tick()
            harness.watermark(watermarks[number % len(watermarks)]).epoch()
        harness.finish()

    return run


class Pairs(sf.WindowAssigner):
    """Windows of two, and none around multiples of seven."""

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        at = times.to_physical()
        starts = pl.select(pl.when(at % 7 > 0).then(at - at % 2)).to_series()
        return starts, starts + 2


class Spans(sf.WindowAssigner):
    """Sessions with a pause that depends on the time."""

    merging = True

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        at = times.to_physical()
        return at, at + 1 + at % 5


_SOME = settings(max_examples=max(5, settings().max_examples // 5))
"""An example is five runs, with a restore between any two elements."""
_FEW = settings(max_examples=max(3, settings().max_examples // 10))
"""For triggers, whose runs take several times as long."""

_batches = st.lists(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 40)), max_size=5), min_size=1, max_size=3
)
_watermarks = st.lists(st.integers(-1, 40), min_size=1, max_size=4).map(sorted)
_batch_rows = st.sampled_from([1, None])


@pytest.mark.parametrize("assigner", WINDOWS, ids=str)
@_SOME
@given(
    batches=_batches,
    watermarks=_watermarks,
    lateness=st.sampled_from([0, 8]),
    accumulation=st.sampled_from(["accumulating", "discarding", "retracting"]),
    pane_info=st.booleans(),
    late_used=st.booleans(),
    timestamp=st.sampled_from(["end", "end", "earliest", "latest"]),
    budget=st.sampled_from([1, 3_000, 1 << 20]),
    batch_rows=_batch_rows,
)
def test_windows(
    assigner: Assigner,
    batches: list[Batch],
    watermarks: list[int],
    lateness: int,
    accumulation: Any,
    pane_info: bool,
    late_used: bool,
    timestamp: Any,
    budget: int,
    batch_rows: int | None,
) -> None:
    if timestamp == "earliest" and isinstance(assigner, (Session, CountWindow)):
        timestamp = "latest"
    spec = WindowAggregateSpec(
        keys=("k",),
        assigner=assigner,
        aggregates=AGGREGATES,
        allowed_lateness=0 if isinstance(assigner, CountWindow) else lateness,
        timestamp=timestamp,
        accumulation=accumulation,
        pane_info=pane_info,
        late_used=late_used,
    )
    check_snapshots(
        spec, RECORDS, script=script(batches, watermarks), batch_rows=[batch_rows], memory_budget=budget
    )


TRIGGERS = [
    sf.repeatedly(sf.after_count(2)),
    sf.after_watermark(early=sf.after_processing_time("5s"), late=sf.after_count(2)),
    sf.after_each(sf.after_count(2), sf.after_all(sf.after_watermark(), sf.after_processing_time("3s"))),
    sf.repeatedly(sf.after_any(sf.after_count(3), sf.after_watermark())).or_finally(sf.after_count(6)),
    sf.never(),
]


@pytest.mark.parametrize("trigger", TRIGGERS, ids=str)
@_FEW
@given(
    batches=_batches,
    watermarks=_watermarks,
    assigner=st.sampled_from(
        [Tumbling(10), Sliding(10, 5), Sliding(3, 10), Session(5), GlobalWindow(), Pairs(), Spans()]
    ),
    lateness=st.sampled_from([0, 8]),
    accumulation=st.sampled_from(["accumulating", "discarding", "retracting"]),
    late_used=st.booleans(),
    budget=st.sampled_from([1, 3_000, 1 << 20]),
    batch_rows=_batch_rows,
)
def test_triggers(
    trigger: Any,
    batches: list[Batch],
    watermarks: list[int],
    assigner: Assigner,
    lateness: int,
    accumulation: Any,
    late_used: bool,
    budget: int,
    batch_rows: int | None,
) -> None:
    spec = WindowAggregateSpec(
        keys=("k",),
        assigner=assigner,
        aggregates=AGGREGATES,
        trigger=trigger,
        allowed_lateness=lateness,
        accumulation=accumulation,
        pane_info=True,
        late_used=late_used,
    )
    check_snapshots(
        spec,
        RECORDS,
        script=script(batches, watermarks, pause="2s"),
        batch_rows=[batch_rows],
        memory_budget=budget,
    )


@pytest.mark.parametrize("updates", ["batch", "epoch", "end"])
@_SOME
@given(batches=_batches, budget=st.sampled_from([1, 3_000, 1 << 20]), batch_rows=_batch_rows)
def test_running_totals(batches: list[Batch], updates: Any, budget: int, batch_rows: int | None) -> None:
    spec = RunningAggregateSpec(keys=("k",), aggregates=AGGREGATES)
    check_snapshots(
        spec,
        RECORDS,
        script=script(batches, [0]),
        batch_rows=[batch_rows],
        updates=updates,
        memory_budget=budget,
    )


def _totals(updates: Any, *times: int, parts: Any = (), parallelism: int = 1) -> OperatorHarness:
    harness = OperatorHarness(
        RunningAggregateSpec(keys=("k",), aggregates=(("n", sf.count()),)), RECORDS, updates=updates
    )
    if parts:
        harness.restore(parts, parallelism=parallelism)
    return harness.push([{"k": "abc"[time % 3], "v": 1} for time in times], times=times)


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("after", ["batch", "epoch"])
@pytest.mark.parametrize("before", ["batch", "epoch", "end"])
def test_totals_go_on_in_another_mode(before: str, after: str, parallelism: int) -> None:
    first = _totals(before, 0, 1, 3)
    second = _totals(after, 0, 2, parts=first.snapshot(), parallelism=parallelism).finish()
    changes = [*first.output(), *second.output()]
    assert sorted((row["k"], row["n"]) for row in final_rows(changes)) == [
        ("a", 3),
        ("b", 1),
        ("c", 1),
    ]


@pytest.mark.parametrize("before", ["batch", "epoch"])
def test_changes_that_are_out_cannot_become_a_single_result(before: str) -> None:
    with pytest.raises(sf.StateError, match="at the end"):
        _totals("end", 0, parts=_totals(before, 0, 1).snapshot())


def window(**more: Any) -> WindowAggregateSpec:
    return WindowAggregateSpec(
        **{"keys": ("k",), "assigner": Tumbling(10), "aggregates": (("n", sf.sum("v")),), **more}
    )


@pytest.mark.parametrize(
    ("before", "after", "differences"),
    [
        ({}, {}, []),
        ({}, {"null_keys": "group", "late_used": True}, []),
        ({}, {"accumulation": "retracting", "pane_info": True}, []),
        ({"allowed_lateness": 9}, {"allowed_lateness": 3}, []),
        ({}, {"keys": ("v",)}, ["key", "key"]),
        ({}, {"assigner": Tumbling(20)}, ["window"]),
        ({}, {"aggregates": (("n", sf.max("v")),)}, ["aggregate"]),
        ({}, {"aggregates": (("m", sf.sum("v")),)}, ["aggregate", "aggregate"]),
        ({}, {"allowed_lateness": 3}, ["allowed_lateness"]),
        ({"allowed_lateness": 3}, {"allowed_lateness": 9}, ["allowed_lateness"]),
        (
            {"allowed_lateness": 9, "pane_info": True},
            {"allowed_lateness": 3, "pane_info": True},
            ["allowed_lateness"],
        ),
        (
            {"allowed_lateness": 9},
            {"allowed_lateness": 9, "accumulation": "discarding"},
            ["accumulation"],
        ),
    ],
)
def test_what_may_change_under_saved_windows(
    before: dict[str, Any], after: dict[str, Any], differences: list[str]
) -> None:
    saved = unpack(pack(dict(window(**before).state_signature([RECORDS]))))
    said = window(**after).check_state(saved, [RECORDS])
    assert [sentence.split()[0] for sentence in said] == differences


def test_another_type_of_a_key_or_an_input_is_named() -> None:
    spec = RunningAggregateSpec(keys=("k",), aggregates=(("n", sf.sum("v")),))
    other = StreamType(Schema({"k": pl.Int64, "v": pl.Float64}), timed=True)
    said = spec.check_state(spec.state_signature([RECORDS]), [other])
    assert [sentence.split()[0] for sentence in said] == ["key", "aggregate"]
    assert "Int64" in said[0]


def test_a_combiner_in_front_does_not_change_what_is_kept() -> None:
    for spec in (window(), RunningAggregateSpec(keys=("k",), aggregates=AGGREGATES)):
        split = spec.split_combiner([RECORDS])
        assert split is not None
        combiner, rest = split
        assert rest.state_signature([combiner.output_type([RECORDS])]) == spec.state_signature([RECORDS])


@pytest.mark.parametrize("assigner", [Tumbling(10), Sliding(10, 5), Session(5)], ids=str)
@pytest.mark.parametrize("shorter", [0, 4])
def test_a_shorter_allowed_lateness_holds_for_what_was_kept_under_a_longer_one(
    assigner: Assigner, shorter: int
) -> None:
    def run(*specs: WindowAggregateSpec) -> list[dict[str, Any]]:
        first = OperatorHarness(specs[0], RECORDS)
        first.push([{"k": "a", "v": 1}, {"k": "a", "v": 2}], times=[2, 23]).watermark(19)
        last = OperatorHarness(specs[-1], RECORDS)
        if len(specs) == 1:
            last = first
        else:
            last.restore(first.snapshot())
        last.push([{"k": "a", "v": 8}], times=[24]).watermark(20).finish()
        return first.output() if last is first else first.output() + last.output()

    longer = window(assigner=assigner, allowed_lateness=100)
    assert run(longer, window(assigner=assigner, allowed_lateness=shorter)) == run(longer)


def test_a_session_goes_on_from_what_has_fired_though_the_allowed_lateness_is_none_now() -> None:
    first = OperatorHarness(window(assigner=Session(5), allowed_lateness=10), RECORDS)
    first.push([{"k": "a", "v": 1}], times=[2]).watermark(7).push([{"k": "a", "v": 2}], times=[5])
    last = OperatorHarness(window(assigner=Session(5)), RECORDS)
    last.restore(first.snapshot())
    last.finish()
    assert [row["n"] for row in first.output()] == [1]
    assert [row["n"] for row in last.output()] == [3]


@pytest.mark.parametrize("assigner", [Session(5), Tumbling(10)], ids=str)
@pytest.mark.parametrize("damage", ["a column too many", "a column too few"])
def test_a_kept_table_of_other_columns_is_found_when_it_is_restored(assigner: Assigner, damage: str) -> None:
    spec = WindowAggregateSpec(("k",), assigner, AGGREGATES, 5, "accumulating", False)
    harness = OperatorHarness(spec, RECORDS).watermark(0).push([{"k": "a", "v": 1}], times=[3])

    def damaged(frame: pl.DataFrame) -> pl.DataFrame:
        if damage == "a column too many":
            return frame.with_columns(more=pl.lit(1))
        return frame.drop(next(name for name in frame.columns if name.startswith("__p")))

    (part,) = harness.snapshot()
    tables = {name: [(pane, damaged(frame)) for pane, frame in table] for name, table in part.tables.items()}
    with pytest.raises((sf.StateError, pl.exceptions.PolarsError)):
        harness.restore([replace(part, tables=tables)])
