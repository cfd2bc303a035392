"""Tumbling, sliding and global windows on time: which panes come, when, in what order and with what columns."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from streamflow.core.schema import EVENT_TIME, Schema
from streamflow.core.stream_type import StreamType
from streamflow.errors import JobDefinitionError, RecordError
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.time.timestamps import EARLIEST, LATEST, MAX_TIME
from streamflow.windows import aggregates as sf
from streamflow.windows.assigners import (
    Assigner,
    Calendar,
    Cumulative,
    GlobalWindow,
    Session,
    Sliding,
    Tumbling,
)
from tests.unit.operators.driving import RECORDS, Driven, frame_of

COUNTS = (("n", sf.count()), ("total", sf.sum("value")))
SECOND = 1_000_000
HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND


def spec(assigner: Any, **options: Any) -> WindowAggregateSpec:
    return WindowAggregateSpec(("key",), assigner, options.pop("aggregates", COUNTS), **options)


@pytest.fixture(params=[False, True], ids=["whole", "combined"])
def combine(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_tumbling_window_fires_when_the_watermark_passes_its_last_moment(combine: bool) -> None:
    driven = Driven(spec(Tumbling(10)), combine=combine).batch(
        ("a", 3, 1), ("a", 9, 2), ("b", 10, 4), ("a", -1, 8)
    )
    assert driven.watermark(-2).take() == []
    assert driven.watermark(-1).take() == [("a", -10, 0, 1, 8, -1)]
    assert driven.watermark(8).take() == []
    assert driven.watermark(9).take() == [("a", 0, 10, 2, 3, 9)]
    assert driven.end().take() == [("b", 10, 20, 1, 4, 19)]


def test_panes_come_in_window_order_and_by_key_within(combine: bool) -> None:
    driven = Driven(spec(Tumbling(10)), combine=combine).batch(
        ("b", 25, 1), ("b", 5, 1), ("a", 25, 1), ("c", 15, 1), ("a", 5, 1)
    )
    assert [(key, start) for key, start, *_ in driven.end().take()] == [
        ("a", 0),
        ("b", 0),
        ("c", 10),
        ("a", 20),
        ("b", 20),
    ]


def test_a_watermark_that_goes_back_changes_nothing(combine: bool) -> None:
    driven = Driven(spec(Tumbling(10)), combine=combine).batch(("a", 15, 1)).watermark(12)
    driven.watermark(5).batch(("a", 3, 1))
    assert driven.dropped == 1
    assert [row[:3] for row in driven.end().take()] == [("a", 10, 20)]


def test_sliding_windows_share_slices(combine: bool) -> None:
    driven = Driven(spec(Sliding(size=30, every=10)), combine=combine)
    driven.batch(("a", 5, 1), ("a", 15, 2)).watermark(19)
    assert driven.take() == [("a", -20, 10, 1, 1, 9), ("a", -10, 20, 2, 3, 19)]
    driven.batch(("a", 25, 4))
    assert driven.end().take() == [
        ("a", 0, 30, 3, 7, 29),
        ("a", 10, 40, 2, 6, 39),
        ("a", 20, 50, 1, 4, 49),
    ]


def test_sliding_windows_whose_size_is_no_multiple_of_the_slide(combine: bool) -> None:
    driven = Driven(spec(Sliding(size=5, every=3)), combine=combine).batch(
        ("a", 2, 1), ("a", 4, 2), ("a", 5, 4)
    )
    assert driven.end().take() == [("a", 0, 5, 2, 3, 4), ("a", 3, 8, 2, 6, 7)]


def test_records_between_two_windows_are_counted_and_in_none(combine: bool) -> None:
    driven = Driven(spec(Sliding(size=3, every=10)), combine=combine)
    driven.batch(("a", 2, 1), ("a", 3, 2), ("b", 9, 4), ("a", 10, 8), ("b", 9, 16))
    assert driven.end().take() == [("a", 0, 3, 1, 1, 2), ("a", 10, 13, 1, 8, 12)]
    assert driven.in_no_window == 3
    assert driven.dropped == 0


def test_windows_of_the_year_9999_and_of_before_1970(combine: bool) -> None:
    late, early = 253_402_300_799 * SECOND, -62_000_000_000 * SECOND
    driven = Driven(spec(Tumbling(10 * SECOND)), combine=combine).batch(("a", late, 1), ("a", early, 2))
    rows = driven.end().take()
    assert [(start, total) for _, start, _, _, total, _ in rows] == [
        (early, 2),
        (late - late % (10 * SECOND), 1),
    ]


@pytest.mark.parametrize(
    "assigner",
    [
        Tumbling(7 * DAY),
        Cumulative(7 * DAY, step=7 * DAY),
        Session(400 * DAY),
        GlobalWindow(),
        Calendar("1d", "Pacific/Kiritimati", 23 * HOUR),
        Calendar("1w", "Asia/Tokyo", -6 * DAY),
        Calendar("1mo", "Pacific/Pago_Pago", 27 * DAY),
    ],
    ids=str,
)
def test_the_first_and_the_last_moment_are_in_a_window(assigner: Assigner, combine: bool) -> None:
    for moment in (EARLIEST, LATEST):
        driven = Driven(spec(assigner), combine=combine).batch(("a", moment, 1))
        assert [row[-2] for row in driven.end().take()] == [1]


def test_many_sparse_windows_fire_in_order_and_leave_nothing(combine: bool) -> None:
    driven = Driven(spec(Sliding(size=20, every=10)), combine=combine)
    driven.batch(*[("a", 1_000 * step, step) for step in range(500)])
    driven.batch(*[("a", 1_000 * step + 11, step) for step in range(500)])
    rows = driven.watermark(250_500).take() + driven.end().take()
    assert len(rows) == 500 * 3
    assert rows == sorted(rows, key=lambda row: row[1])
    assert sum(row[3] for row in rows) == 500 * 2 * 2


def test_the_global_window_fires_once_at_the_end_with_the_largest_event_time(combine: bool) -> None:
    driven = (
        Driven(spec(GlobalWindow()), combine=combine)
        .batch(("b", 5, 1), ("a", 7, 2), ("a", 3, 4))
        .watermark(10**12)
    )
    assert driven.take() == []
    assert driven.batch(("a", 1, 8)).end().take() == [("a", 3, 14, 7), ("b", 1, 1, 5)]
    assert driven.dropped == 0


def test_nothing_is_put_out_for_nothing(combine: bool) -> None:
    for assigner in (Tumbling(10), Sliding(10, 5), GlobalWindow()):
        assert Driven(spec(assigner), combine=combine).watermark(5).batch().end().take() == []


def test_several_keys_are_grouped_by_all_of_them() -> None:
    records = StreamType(Schema({"x": pl.String(), "y": pl.Int8(), "value": pl.Int64()}), timed=True)
    both = WindowAggregateSpec(("y", "x"), Tumbling(10), COUNTS)
    driven = Driven(both, records=records, combine=True)
    frame = pl.DataFrame({"x": ["a", "a", "b"], "y": [1, 2, 1], "value": [1, 2, 4], EVENT_TIME: [0, 1, 2]})
    driven.frame(frame.cast({"y": pl.Int8, EVENT_TIME: pl.Datetime("us", "UTC")}))
    assert driven.end().take() == [
        (1, "a", 0, 10, 1, 1, 9),
        (1, "b", 0, 10, 1, 4, 9),
        (2, "a", 0, 10, 1, 2, 9),
    ]


def test_null_keys_are_refused_with_the_key_the_operator_and_the_record(combine: bool) -> None:
    driven = Driven(spec(Tumbling(10)), combine=combine)
    with pytest.raises(RecordError, match=r"operator op-1: the key 'key' is null[\s\S]*'value': 7"):
        driven.batch(("a", 1, 1), (None, 2, 7))


@pytest.mark.parametrize("assigner", [Tumbling(10), Sliding(10, 10), GlobalWindow()])
def test_null_keys_may_be_a_group(combine: bool, assigner: Any) -> None:
    driven = Driven(spec(assigner, null_keys="group"), combine=combine)
    driven.batch((None, 1, 1), ("a", 2, 2), (None, 3, 4))
    assert [(row[0], row[-2]) for row in driven.end().take()] == [(None, 5), ("a", 2)]


def test_pane_columns_tell_an_on_time_pane() -> None:
    driven = Driven(spec(Tumbling(10), pane_info=True)).batch(("a", 1, 1)).watermark(9)
    assert driven.take() == [("a", 0, 10, 1, 1, "ON_TIME", 0, True, True, 9)]


def test_the_global_window_has_pane_columns_too() -> None:
    driven = Driven(spec(GlobalWindow(), pane_info=True, accumulation="retracting")).batch(("a", 1, 1))
    assert driven.end().take() == [("insert", "a", 1, 1, "ON_TIME", 0, True, True, 1)]


def test_a_new_operator_restored_from_a_snapshot_knows_the_watermark() -> None:
    driven = Driven(spec(Tumbling(10))).watermark(25).restarted()
    driven.batch(("a", 5, 1), ("a", 25, 1))
    assert driven.dropped == 1
    assert [row[1] for row in driven.end().take()] == [20]


def test_types_of_results() -> None:
    columns = spec(Tumbling(10), pane_info=True, accumulation="retracting").output_type([RECORDS])
    assert isinstance(columns.schema, Schema)
    assert list(columns.schema) == [
        "change",
        "key",
        "window_start",
        "window_end",
        "n",
        "total",
        "pane_timing",
        "pane_index",
        "is_first",
        "is_last",
    ]
    assert columns.timed
    assert "window_start" not in spec(GlobalWindow()).output_type([RECORDS]).schema  # type: ignore[operator]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keys": ("kee",)}, r"no column 'kee'.*did you mean 'key'"),
        ({"aggregates": (("total", sf.sum("valu")),)}, r"no column 'valu'.*did you mean 'value'"),
        ({"aggregates": (("total", sf.top_k("value", 1, by="by")),)}, r"no column 'by'"),
        ({"aggregates": (("total", sf.sum("key")),)}, r"sum\(key\) does not work on String"),
        ({"aggregates": (("key", sf.count()),)}, "cannot be named 'key'"),
        ({"aggregates": (("window_end", sf.count()),)}, "cannot be named 'window_end'"),
        ({"aggregates": (("__x", sf.count()),)}, "reserved"),
    ],
)
def test_what_does_not_fit_is_an_error_when_the_job_is_built(options: dict[str, Any], said: str) -> None:
    fields = {"keys": ("key",), "aggregates": COUNTS} | options
    with pytest.raises(JobDefinitionError, match=said):
        WindowAggregateSpec(assigner=Tumbling(10), **fields).output_type([RECORDS])


def test_windows_need_event_time() -> None:
    untimed = StreamType(RECORDS.schema, timed=False)
    with pytest.raises(JobDefinitionError, match="event time"):
        spec(Tumbling(10)).output_type([untimed])


def test_a_combined_batch_has_a_row_per_key_and_slice() -> None:
    parts = spec(Tumbling(10)).split_combiner([RECORDS])
    assert parts is not None
    driven = Driven(spec(Tumbling(10)), combine=True)
    driven.frame(frame_of([("a", time % 20, 1) for time in range(1_000)]))
    assert parts[0].pure
    assert driven.end().take() == [("a", 0, 10, 500, 500, 9), ("a", 10, 20, 500, 500, 19)]


def test_there_is_no_combiner_where_late_records_are_wanted_whole() -> None:
    assert spec(Tumbling(10), late_used=True).split_combiner([RECORDS]) is None
    parts = spec(Tumbling(10)).split_combiner([RECORDS])
    assert parts is not None
    assert parts[1].split_combiner([parts[0].output_type([RECORDS])]) is None


def test_only_the_columns_that_are_read_are_needed() -> None:
    wide = StreamType(Schema({"key": pl.String(), "value": pl.Int64(), "other": pl.String()}), timed=True)
    assert spec(Tumbling(10)).needed_columns(None, [wide]) == {"key", "value"}
    assert spec(Tumbling(10), late_used=True).needed_columns(None, [wide]) is None


def test_values_whose_type_shows_only_when_the_job_runs_may_widen() -> None:
    floats = StreamType(Schema({"key": pl.String(), "value": pl.Float64()}), timed=True)
    unknown = StreamType(Schema({"key": pl.String(), "value": pl.Unknown()}), timed=True)
    for combine in (False, True):
        driven = Driven(spec(Tumbling(10)), records=unknown, combine=combine)
        assert driven.type.schema["total"] == pl.Unknown()  # type: ignore[index]
        driven.frame(frame_of([("a", 1, 2)]))
        driven.frame(frame_of([("a", 2, 0.5)], floats))
        assert driven.watermark(MAX_TIME).take() == [("a", 0, 10, 2, 2.5, 9)]


def test_memory_is_bounded_by_spilling() -> None:
    driven = Driven(spec(Tumbling(10)), memory_budget=20_000)
    for start in range(0, 4_000, 200):
        driven.batch(*[(f"key-{number % 50}", number, 1) for number in range(start, start + 200)])
    assert driven.operator._parts.store.spilled > 0  # type: ignore[attr-defined]
    rows = driven.end().take()
    assert sum(row[3] for row in rows) == 4_000
    assert rows == sorted(rows, key=lambda row: (row[1], row[0]))
