"""`OperatorHarness`: one operator alone, in batches of one record and of many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
import pytest

import streamflow as sf
from streamflow.core.batch import RowBatch
from streamflow.core.elements import AnyBatch
from streamflow.core.frame import FrameBatch
from streamflow.core.schema import OBJECTS, Schema
from streamflow.core.stream_type import StreamType
from streamflow.operators.contract.inputs import InputNeeds
from streamflow.operators.contract.operator import (
    LATE,
    Collector,
    Layout,
    Operator,
    OperatorContext,
    OperatorSnapshot,
    OperatorSpec,
    StatePart,
)
from streamflow.operators.stateless.columns import Filter
from streamflow.operators.stateless.frames import MapBatches
from streamflow.operators.stateless.functions import Functions, Step
from streamflow.operators.totals.running import RunningAggregateSpec
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.state.operator_snapshot import rows_within
from streamflow.testing import OperatorHarness, TestClock, check_batchings, check_snapshots

EVENTS = StreamType(Schema({"k": pl.String, "v": pl.Int64}), timed=True)
ROWS = [{"k": "a", "v": 1}, {"k": "b", "v": 2}, {"k": "a", "v": 4}, {"k": "a", "v": 8}]
TIMES = [1, 2, 3, 12]


def window(**more: Any) -> WindowAggregateSpec:
    return WindowAggregateSpec(
        keys=("k",),
        assigner=sf.tumbling("10us"),
        aggregates=(("total", sf.sum("v")),),
        **more,
    )


def totals(rows: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(row["k"], row["total"]) for row in rows]


def test_records_watermarks_and_the_end() -> None:
    harness = OperatorHarness(window(), EVENTS).push(ROWS, times=TIMES)
    assert harness.output() == []
    assert totals(harness.watermark(9).output()) == [("a", 5), ("b", 2)]
    assert totals(harness.finish().output())[2:] == [("a", 8)]
    assert harness.event_times() == [9, 9, 19]
    assert harness.watermarks[0] == 9


def test_late_records_go_where_somebody_reads_or_are_counted() -> None:
    read = OperatorHarness(window(late_used=True), EVENTS).watermark(50).push(ROWS, times=TIMES)
    assert read.output(LATE) == ROWS
    unread = OperatorHarness(window(), EVENTS, reads=()).watermark(50).push(ROWS, times=TIMES)
    assert unread.output(LATE) == []
    assert unread.metrics.late_dropped.value == 4


@dataclass(frozen=True)
class Numbered(OperatorSpec):
    """Gives each record a number; how far it has come is its snapshot."""

    kind: ClassVar[str] = "numbered"

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return StreamType(OBJECTS, timed=False)

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _NumberedOperator()


class _NumberedOperator(Operator):
    def __init__(self) -> None:
        self._next = 0

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        numbers = range(self._next, self._next + len(batch))
        self._next = numbers.stop
        out.emit(RowBatch(list(numbers)))

    def snapshot(self) -> OperatorSnapshot:
        return OperatorSnapshot({"next": self._next})

    def restore(self, parts: Sequence[StatePart]) -> None:
        self._next = parts[0].values["next"]


def test_an_operator_goes_on_from_its_snapshot() -> None:
    harness = OperatorHarness(Numbered(), StreamType(OBJECTS, timed=False)).push(["a", "b"])
    (part,) = harness.snapshot()
    assert part.values == {"next": 2}
    assert harness.push(["c"]).restore([part]).push(["d"]).output() == [0, 1, 2, 2]


def test_an_epoch_is_when_micro_batches_give_totals() -> None:
    spec = RunningAggregateSpec(keys=("k",), aggregates=(("total", sf.sum("v")),))
    harness = OperatorHarness(spec, EVENTS, updates="epoch").push(ROWS, times=TIMES)
    assert harness.output() == []
    assert sorted(totals(harness.epoch().output())) == [("a", 13), ("b", 2)]


def test_rows_come_in_the_layout_that_is_asked_for() -> None:
    doubled = Functions((Step("map", lambda row: {**row, "v": row["v"] * 2}, EVENTS.schema),))
    harness = OperatorHarness(doubled, EVENTS).push(ROWS, times=TIMES)
    assert [row["v"] for row in harness.output()] == [2, 4, 8, 16]
    assert harness.event_times() == TIMES
    objects = OperatorHarness(Functions((Step("filter", bool),)), StreamType(OBJECTS, timed=False))
    assert objects.push([0, "x", None]).output() == ["x"]


def test_event_times_have_to_be_there() -> None:
    with pytest.raises(sf.JobDefinitionError, match="has event time"):
        OperatorHarness(window(), EVENTS).push(ROWS)


@pytest.mark.parametrize("accumulation", ["accumulating", "discarding", "retracting"])
def test_batching_does_not_change_results(accumulation: str) -> None:
    def script(harness: OperatorHarness) -> None:
        harness.push(ROWS, times=TIMES).watermark(9).push(ROWS[:1], times=[11]).finish()

    check_batchings(window(accumulation=accumulation), EVENTS, script=script)


def test_panes_that_fire_again_count_by_their_last() -> None:
    def script(harness: OperatorHarness) -> None:
        harness.watermark(9).push(ROWS, times=TIMES).finish()

    spec = window(allowed_lateness=100)
    check_batchings(spec, EVENTS, script=script, key=["k", "window_start"])
    with pytest.raises(AssertionError, match="window, output main, in batches of 1"):
        check_batchings(spec, EVENTS, script=script)


def test_an_operator_that_depends_on_its_batches_is_caught() -> None:
    numbers = StreamType(Schema({"n": pl.Int64}), timed=False)
    spec = MapBatches(lambda frame: frame.select(pl.col("n").max()), None)
    with pytest.raises(AssertionError, match="in batches of 2"):
        check_batchings(spec, numbers, batch_rows=(2,), script=lambda h: h.push([{"n": n} for n in range(4)]))
    check_batchings(
        Filter(predicate=pl.col("n") > 1), numbers, script=lambda h: h.push([{"n": n} for n in range(4)])
    )


# Snapshots.

COUNTS = StreamType(Schema({"k": pl.String}), timed=False)


@dataclass(frozen=True)
class Counting(OperatorSpec):
    """How often each key has come so far. `forgets`: what it does wrong with its snapshots."""

    kind: ClassVar[str] = "counting"
    forgets: str = ""

    def output_type(self, inputs: Sequence[StreamType]) -> StreamType:
        return StreamType(Schema({"k": pl.String, "n": pl.Int64}), timed=False)

    def needs(self, port: int) -> InputNeeds:
        return InputNeeds(Layout.FRAME, ("k",))

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _CountingOperator(ctx, self.forgets)


class _CountingOperator(Operator):
    def __init__(self, ctx: OperatorContext, forgets: str) -> None:
        self._ctx, self._forgets = ctx, forgets
        self._counts: dict[str, int] = {}

    def process_batch(self, batch: AnyBatch, port: int, out: Collector) -> None:
        for key in batch.frame["k"]:  # type: ignore[union-attr]
            self._counts[key] = self._counts.get(key, 0) + 1
            out.emit(FrameBatch(pl.DataFrame({"k": [key], "n": [self._counts[key]]})))

    def finish(self, out: Collector) -> None:
        for key, count in self._counts.items():
            out.emit(FrameBatch(pl.DataFrame({"k": [key], "n": [-count]})))

    def snapshot(self) -> OperatorSnapshot:
        if self._forgets == "in snapshots":
            self._counts.pop("a", None)
        table = pl.DataFrame(
            {"k": list(self._counts), "n": list(self._counts.values())}, {"k": pl.String, "n": pl.Int64}
        )
        return OperatorSnapshot(tables={"counts": [(0, table)]}, keys=("k",))

    def restore(self, parts: Sequence[StatePart]) -> None:
        for part in parts[: 1 if self._forgets == "other subtasks" else None]:
            for _, table in part.tables["counts"]:
                own = (
                    table
                    if self._forgets == "key groups"
                    else rows_within(table, ["k"], self._ctx.groups, 128)
                )
                self._counts |= {} if self._forgets == "to restore" else dict(own.rows())


def keys(harness: OperatorHarness) -> None:
    for each in ("ab", "cd", "ae", "bb"):
        harness.push([{"k": key} for key in each])
    harness.finish()


def test_an_operator_that_keeps_everything_passes() -> None:
    check_snapshots(Counting(), COUNTS, script=keys)


@pytest.mark.parametrize(
    ("forgets", "caught"),
    [
        ("in snapshots", "snapshot between elements"),
        ("to restore", "restore between elements"),
        ("key groups", "rescale between elements"),
        ("other subtasks", "rescale between elements"),
    ],
)
def test_an_operator_that_forgets_is_caught(forgets: str, caught: str) -> None:
    with pytest.raises(AssertionError, match=caught):
        check_snapshots(Counting(forgets), COUNTS, script=keys)


def test_subtasks_get_the_records_of_their_keys() -> None:
    harness = OperatorHarness(Counting(), COUNTS, parallelism=3)
    keys(harness)
    assert {row["k"]: -row["n"] for row in harness.output() if row["n"] < 0} == {
        "a": 2,
        "b": 3,
        "c": 1,
        "d": 1,
        "e": 1,
    }
    parts = harness.snapshot()
    assert [part.groups for part in parts] == [range(43), range(43, 86), range(86, 128)]
    owned = [row for part in parts for _, table in part.tables["counts"] for row in table.rows()]
    assert sorted(owned) == [("a", 2), ("b", 3), ("c", 1), ("d", 1), ("e", 1)]


def test_a_snapshot_can_be_restored_more_than_once() -> None:
    harness = OperatorHarness(Counting(), COUNTS).push([{"k": "a"}])
    parts = harness.snapshot()
    for parallelism in (1, 2, 1):
        assert harness.restore(parts, parallelism=parallelism).push([{"k": "a"}]).output()[-1] == {
            "k": "a",
            "n": 2,
        }


@dataclass(frozen=True)
class Alarm(Counting):
    """Rings once, when the clock has come to 5 µs."""

    def build(self, ctx: OperatorContext, inputs: Sequence[StreamType]) -> Operator:
        return _AlarmOperator(ctx, "")


class _AlarmOperator(_CountingOperator):
    due: int | None = 5

    def next_processing_time(self) -> int | None:
        return self.due

    def on_processing_time(self, now: int, out: Collector) -> None:
        self.due = None
        out.emit(FrameBatch(pl.DataFrame({"k": ["ring"], "n": [now]})))


def test_processing_time_is_what_the_clock_says() -> None:
    harness = OperatorHarness(Alarm(), COUNTS, clock=TestClock(0)).tick()
    assert harness.output() == []
    harness.clock.advance("7us")
    assert harness.tick().tick().output() == [{"k": "ring", "n": 7}]
