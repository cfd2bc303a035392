"""Session windows: what is one session, when it fires, what late records do to it."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from streamflow.operators.windows import sessions
from streamflow.operators.windows.merging import SESSION, with_sessions
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.windows import aggregates as sf
from streamflow.windows.assigners import Session
from tests.unit.operators.driving import Driven

COUNTS = (("n", sf.count()), ("total", sf.sum("value")))


@pytest.fixture(params=[False, True], ids=["at hand", "put away"], autouse=True)
def put_away(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open sessions stay at hand while they are few, as in these tests; or are put away as soon as they are not due."""
    if request.param:
        monkeypatch.setattr(sessions, "_AT_HAND", 0)
        monkeypatch.setattr(sessions, "_MANY_OPEN", 0)
        monkeypatch.setattr(sessions, "_AHEAD", 0)


def spec(gap: int = 10, **options: Any) -> WindowAggregateSpec:
    return WindowAggregateSpec(("key",), Session(gap), options.pop("aggregates", COUNTS), **options)


@pytest.fixture(params=[False, True], ids=["whole", "combined"])
def combine(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def bounds(driven: Driven) -> list[tuple[Any, ...]]:
    return [row[:4] for row in driven.take()]


def test_a_distance_of_exactly_the_gap_is_two_sessions(combine: bool) -> None:
    driven = Driven(spec(), combine=combine)
    driven.batch(*[("a", time, 1) for time in (0, 5, 15, 25, 36, 46)])
    assert bounds(driven.end()) == [
        ("a", 0, 15, 2),
        ("a", 15, 25, 1),
        ("a", 25, 35, 1),
        ("a", 36, 46, 1),
        ("a", 46, 56, 1),
    ]


@pytest.mark.parametrize("order", [(0, 9, 18, 30), (30, 18, 9, 0), (18, 0, 30, 9)])
def test_sessions_do_not_depend_on_order_or_batches(combine: bool, order: tuple[int, ...]) -> None:
    driven = Driven(spec(), combine=combine).watermark(-100)
    for time in order:
        driven.batch(("a", time, 1), ("b", -time, 1))
    assert bounds(driven.end()) == [
        ("b", -30, -20, 1),
        ("b", -18, 10, 3),
        ("a", 0, 28, 3),
        ("a", 30, 40, 1),
    ]


def test_a_session_fires_when_the_watermark_passes_its_last_moment(combine: bool) -> None:
    driven = Driven(spec(), combine=combine).batch(("a", 0, 1), ("b", 3, 2))
    assert driven.watermark(8).take() == []
    assert driven.watermark(9).take() == [("a", 0, 10, 1, 1, 9)]
    assert driven.watermark(12).take() == [("b", 3, 13, 1, 2, 12)]
    assert driven.end().take() == []


def test_a_bridging_record_joins_sessions(combine: bool) -> None:
    driven = Driven(spec(), combine=combine).batch(("a", 0, 1), ("a", 16, 2), ("a", 40, 4)).watermark(5)
    driven.batch(("a", 8, 8)).watermark(25)
    assert driven.take() == [("a", 0, 26, 3, 11, 25)]
    assert bounds(driven.end()) == [("a", 40, 50, 1)]


def test_a_session_that_goes_on_does_not_fire(combine: bool) -> None:
    driven = Driven(spec(), combine=combine)
    for time in range(0, 200, 5):
        driven.batch(("a", time, 1)).watermark(time - 1)
    assert driven.take() == []
    assert bounds(driven.end()) == [("a", 0, 205, 40)]


def test_a_record_in_the_middle_of_a_long_open_session_is_part_of_it(combine: bool) -> None:
    driven = Driven(spec(), combine=combine)
    driven.batch(*[("a", time, 1) for time in range(0, 101, 5)]).watermark(40)
    driven.batch(("a", 52, 1)).watermark(70)
    assert driven.take() == []
    assert bounds(driven.end()) == [("a", 0, 110, 22)]


def test_lateness_is_judged_after_the_merge(combine: bool) -> None:
    driven = Driven(spec(), combine=combine).batch(("a", 15, 1)).watermark(20)
    # By itself it ended at 16, but it overlaps what is open; the one at 2 is too early for both.
    driven.batch(("a", 6, 2), ("b", 6, 4))
    driven.batch(("a", -6, 8))
    assert driven.dropped == 2
    assert bounds(driven.end()) == [("a", 6, 25, 2)]


def test_late_records_saved_by_one_of_their_own_batch(combine: bool) -> None:
    driven = Driven(spec(), combine=combine).watermark(20)
    driven.batch(("a", 5, 1), ("a", 14, 1), ("b", 5, 1))
    assert driven.dropped == 1
    assert bounds(driven.end()) == [("a", 5, 24, 2)]


def test_late_records_come_out_whole_where_that_is_wanted() -> None:
    driven = Driven(spec(late_used=True)).batch(("a", 15, 1)).watermark(20)
    driven.batch(("b", 6, 4), ("a", 6, 2), ("b", 7, 5), ("c", 30, 1))
    assert sorted(driven.late()) == [("b", 4, 6), ("b", 5, 7)]
    assert driven.dropped == 0
    assert bounds(driven.end()) == [("a", 6, 25, 2), ("c", 30, 40, 1)]


def test_a_record_at_the_very_edge_of_lateness(combine: bool) -> None:
    driven = Driven(spec(), combine=combine).watermark(20)
    driven.batch(("a", 11, 1), ("b", 12, 1))  # their sessions end at 20 and 21 inclusive
    assert driven.dropped == 1
    assert bounds(driven.end()) == [("b", 12, 22, 1)]


class TestAllowedLateness:
    def test_a_fired_session_is_extended_and_fires_again(self, combine: bool) -> None:
        driven = Driven(spec(allowed_lateness=20), combine=combine).batch(("a", 0, 1)).watermark(15)
        assert driven.take() == [("a", 0, 10, 1, 1, 9)]
        driven.batch(("a", 3, 2))
        assert driven.take() == [("a", 0, 13, 2, 3, 12)]
        driven.batch(("a", 8, 4))
        assert driven.take() == []  # open again: it ends after the watermark
        assert driven.watermark(17).take() == [("a", 0, 18, 3, 7, 17)]
        assert driven.end().take() == []

    def test_two_fired_sessions_are_bridged(self, combine: bool) -> None:
        driven = (
            Driven(spec(allowed_lateness=50), combine=combine).batch(("a", 0, 1), ("a", 15, 2)).watermark(30)
        )
        assert bounds(driven) == [("a", 0, 10, 1), ("a", 15, 25, 1)]
        driven.batch(("a", 8, 4))
        assert driven.take() == [("a", 0, 25, 3, 7, 24)]

    def test_other_keys_do_not_fire_again(self, combine: bool) -> None:
        driven = (
            Driven(spec(allowed_lateness=50), combine=combine).batch(("a", 0, 1), ("b", 0, 1)).watermark(30)
        )
        driven.take()
        assert bounds(driven.batch(("b", 1, 1))) == [("b", 0, 11, 2)]

    def test_nothing_comes_after_clean_up(self, combine: bool) -> None:
        driven = Driven(spec(allowed_lateness=20), combine=combine).batch(("a", 0, 1)).watermark(29)
        driven.take()
        driven.batch(("a", 0, 1))
        assert driven.dropped == 1
        assert driven.end().take() == []

    def test_discarding_says_only_what_is_new(self, combine: bool) -> None:
        driven = Driven(spec(allowed_lateness=50, accumulation="discarding"), combine=combine)
        driven.batch(("a", 0, 1), ("a", 15, 2)).watermark(30)
        assert [row[4] for row in driven.take()] == [1, 2]
        assert driven.batch(("a", 8, 4)).take() == [("a", 0, 25, 1, 4, 24)]
        assert driven.batch(("a", 20, 8)).take() == [("a", 0, 30, 1, 8, 29)]
        assert driven.batch(("a", 25, 16)).watermark(40).take() == [("a", 0, 35, 1, 16, 34)]
        assert driven.end().take() == []

    def test_retracting_deletes_the_sessions_that_a_merge_swallowed(self, combine: bool) -> None:
        driven = Driven(spec(allowed_lateness=50, accumulation="retracting", pane_info=True), combine=combine)
        driven.batch(("a", 0, 1), ("a", 15, 2)).watermark(30)
        assert driven.take() == [
            ("insert", "a", 0, 10, 1, 1, "ON_TIME", 0, True, False, 9),
            ("insert", "a", 15, 25, 1, 2, "ON_TIME", 0, True, False, 24),
        ]
        driven.batch(("a", 8, 4))
        assert driven.take() == [
            ("delete", "a", 0, 10, 1, 1, "ON_TIME", 0, True, False, 9),
            ("delete", "a", 15, 25, 1, 2, "ON_TIME", 0, True, False, 24),
            ("insert", "a", 0, 25, 3, 7, "LATE", 0, True, False, 24),
        ]
        driven.batch(("a", 9, 8))
        assert driven.take() == [
            ("update_before", "a", 0, 25, 3, 7, "LATE", 0, True, False, 24),
            ("update_after", "a", 0, 25, 4, 15, "LATE", 1, False, False, 24),
        ]


def test_state_survives_a_restart(combine: bool) -> None:
    driven = Driven(spec(), combine=combine).watermark(0).batch(("a", 5, 1), ("b", 7, 2)).restarted()
    driven.batch(("a", 9, 4))
    assert driven.end().take() == [("b", 7, 17, 1, 2, 16), ("a", 5, 19, 2, 5, 18)]


def test_what_is_open_may_be_more_than_fits_in_memory(combine: bool) -> None:
    driven = Driven(spec(), combine=combine, memory_budget=50_000).watermark(-1_000)
    for start in range(0, 20_000, 2_000):
        driven.batch(*[(f"key-{time % 7}", time * 3, 1) for time in range(start, start + 2_000)])
    rows = driven.watermark(10_000).take() + driven.end().take()
    assert sum(row[3] for row in rows) == 20_000
    assert len(rows) == 20_000  # records of a key are 21 apart


def test_sessions_of_many_keys_over_centuries_do_not_overflow() -> None:
    century = 3_155_760_000_000_000
    frame = pl.DataFrame({"key": list(range(4_000)), "__first": [i % 50 * century for i in range(4_000)]})
    merged = with_sessions(frame.with_columns(pl.col("__first").alias("__last")), ["key"], 10)
    assert merged[SESSION].n_unique() == 4_000
