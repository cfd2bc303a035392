"""Which records are late, for which windows, and what becomes of them: SEMANTICS §4, as tables."""

from __future__ import annotations

from typing import Any

import pytest

from streamflow.operators.windows import sessions
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.windows import aggregates as sf
from streamflow.windows.assigners import Session, Sliding, Tumbling
from tests.unit.operators.driving import Driven

COUNTS = (("n", sf.count()), ("total", sf.sum("value")))


@pytest.fixture(params=[False, True], ids=["at hand", "put away"], autouse=True)
def put_away(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open sessions stay at hand while they are few, as in these tests; or are put away as soon as they are not due."""
    if request.param:
        monkeypatch.setattr(sessions, "_AT_HAND", 0)
        monkeypatch.setattr(sessions, "_MANY_OPEN", 0)
        monkeypatch.setattr(sessions, "_AHEAD", 0)


def spec(assigner: Any, **options: Any) -> WindowAggregateSpec:
    return WindowAggregateSpec(("key",), assigner, COUNTS, **options)


@pytest.fixture(params=[False, True], ids=["whole", "combined"])
def combine(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize(
    ("lateness", "watermark", "late"),
    [
        (0, 8, False),  # the window [0, 10) has its last moment at 9
        (0, 9, True),
        (0, 10, True),
        (5, 9, False),
        (5, 13, False),
        (5, 14, True),  # max_timestamp + allowed lateness ≤ W
        (5, 10**9, True),
    ],
)
def test_a_record_is_late_iff_the_window_is_cleaned_up(
    combine: bool, lateness: int, watermark: int, late: bool
) -> None:
    driven = Driven(spec(Tumbling(10), allowed_lateness=lateness), combine=combine).watermark(watermark)
    driven.batch(("a", 9, 1))
    assert driven.dropped == late
    assert len(driven.end().take()) == (not late)


def test_late_for_some_windows_and_on_time_for_others(combine: bool) -> None:
    driven = Driven(spec(Sliding(size=30, every=10)), combine=combine).batch(("a", 15, 1)).watermark(19)
    assert [row[1:5] for row in driven.take()] == [(-10, 20, 1, 1)]
    driven.batch(("a", 15, 2), ("a", 5, 4))  # [-20, 10) and [-10, 20) are over; [0, 30) is not
    assert driven.dropped == 0
    assert [row[1:5] for row in driven.end().take()] == [(0, 30, 3, 7), (10, 40, 2, 3)]


def test_late_for_all_of_several_windows(combine: bool) -> None:
    driven = Driven(spec(Sliding(size=30, every=10)), combine=combine).watermark(29)
    driven.batch(("a", 9, 1), ("a", 10, 2), ("b", 9, 1))
    assert driven.dropped == 2
    assert [row[1:5] for row in driven.end().take()] == [(10, 40, 1, 2)]


def test_dropped_records_are_counted_not_their_partials(combine: bool) -> None:
    driven = Driven(spec(Tumbling(10)), combine=combine).watermark(100)
    driven.batch(*[("a", 5, 1)] * 7, ("b", 5, 1))
    assert driven.dropped == 8


def test_late_records_go_out_whole_and_are_not_counted_as_dropped() -> None:
    driven = Driven(spec(Sliding(size=30, every=10), late_used=True)).watermark(29)
    driven.batch(("a", 9, 7), ("a", 10, 2), ("b", 9, 8))
    assert driven.late() == [("a", 7, 9), ("b", 8, 9)]
    assert driven.dropped == 0
    driven.batch(("a", 9, 9))
    assert driven.late() == [("a", 9, 9)]
    assert len(driven.end().take()) == 1


def test_late_output_that_nothing_reads_is_counted() -> None:
    driven = Driven(spec(Tumbling(10), late_used=True))
    driven.out.late_connected = False
    driven.watermark(9).batch(("a", 9, 7))
    assert (driven.late(), driven.dropped) == ([], 1)


@pytest.mark.parametrize("assigner", [Tumbling(10), Sliding(10, 5), Session(10)])
def test_an_empty_batch_is_nothing(combine: bool, assigner: Any) -> None:
    for late_used in (False, True):
        driven = Driven(spec(assigner, late_used=late_used, allowed_lateness=5), combine=combine).watermark(
            20
        )
        assert driven.batch().take() == driven.late() == []


def test_a_record_in_a_gap_is_not_late() -> None:
    driven = Driven(spec(Sliding(size=3, every=10), late_used=True)).watermark(100)
    driven.batch(("a", 5, 1), ("a", 1, 1))
    assert driven.late() == [("a", 1, 1)]
    assert (driven.dropped, driven.in_no_window) == (0, 1)


class TestLatePanes:
    def test_touched_keys_and_windows_fire_again_at_the_end_of_the_batch(self, combine: bool) -> None:
        driven = Driven(spec(Tumbling(10), allowed_lateness=20), combine=combine)
        driven.batch(("a", 1, 1), ("b", 1, 2), ("a", 11, 4)).watermark(19).take()
        driven.batch(("a", 2, 8), ("a", 3, 16), ("c", 12, 32), ("a", 25, 64))
        assert driven.take() == [("a", 0, 10, 3, 25, 9), ("c", 10, 20, 1, 32, 19)]
        assert driven.end().take() == [("a", 20, 30, 1, 64, 29)]

    def test_a_late_record_of_sliding_windows_fires_those_that_have_fired(self, combine: bool) -> None:
        driven = Driven(spec(Sliding(size=30, every=10), allowed_lateness=15), combine=combine)
        driven.batch(("a", 5, 1)).watermark(29).take()
        # [-20, 10) ended at 9, and 9 + 15 ≤ 29: over. [-10, 20) and [0, 30) may fire again. [10, 40) has not fired.
        driven.batch(("a", 6, 2), ("a", 12, 4))
        assert driven.take() == [("a", -10, 20, 3, 7, 19), ("a", 0, 30, 3, 7, 29)]
        assert driven.dropped == 0
        assert driven.end().take() == [("a", 10, 40, 1, 4, 39)]

    def test_nothing_is_put_out_after_clean_up(self, combine: bool) -> None:
        driven = Driven(spec(Tumbling(10), allowed_lateness=20), combine=combine)
        driven.batch(("a", 1, 1)).watermark(29).take()
        driven.batch(("a", 2, 1))
        assert (driven.take(), driven.dropped) == ([], 1)
        assert driven.end().take() == []

    @pytest.mark.parametrize("assigner", [Tumbling(10), Sliding(10, 5)])
    def test_discarding_says_only_what_is_new(self, combine: bool, assigner: Any) -> None:
        driven = Driven(spec(assigner, allowed_lateness=20, accumulation="discarding"), combine=combine)
        driven.batch(("a", 6, 1)).watermark(9).take()
        assert [row[1:5] for row in driven.batch(("a", 6, 2)).take()] == [(0, 10, 1, 2)]
        assert [row[1:5] for row in driven.batch(("a", 7, 4)).take()] == [(0, 10, 1, 4)]

    def test_discarding_still_gives_windows_to_come_all_of_it(self, combine: bool) -> None:
        driven = Driven(spec(Sliding(10, 5), allowed_lateness=20, accumulation="discarding"), combine=combine)
        driven.batch(("a", 6, 1)).watermark(9).take()
        driven.batch(("a", 6, 2)).take()
        assert [row[1:5] for row in driven.end().take()] == [(5, 15, 2, 3)]

    def test_retracting_takes_the_last_pane_back_first(self, combine: bool) -> None:
        driven = Driven(
            spec(Tumbling(10), allowed_lateness=20, accumulation="retracting", pane_info=True),
            combine=combine,
        )
        driven.batch(("a", 1, 1)).watermark(9)
        assert driven.take() == [("insert", "a", 0, 10, 1, 1, "ON_TIME", 0, True, False, 9)]
        driven.batch(("a", 2, 2), ("b", 3, 4))
        assert driven.take() == [
            ("update_before", "a", 0, 10, 1, 1, "ON_TIME", 0, True, False, 9),
            ("update_after", "a", 0, 10, 2, 3, "LATE", 1, False, False, 9),
            ("insert", "b", 0, 10, 1, 4, "LATE", 0, True, False, 9),
        ]
        driven.batch(("a", 2, 8))
        assert driven.take() == [
            ("update_before", "a", 0, 10, 2, 3, "LATE", 1, False, False, 9),
            ("update_after", "a", 0, 10, 3, 11, "LATE", 2, False, False, 9),
        ]

    def test_pane_indices_without_retractions(self, combine: bool) -> None:
        driven = Driven(spec(Tumbling(10), allowed_lateness=20, pane_info=True), combine=combine)
        driven.batch(("a", 1, 1)).watermark(9).batch(("a", 2, 2)).batch(("b", 2, 2))
        assert [row[5:9] for row in driven.take()] == [
            ("ON_TIME", 0, True, False),
            ("LATE", 1, False, False),
            ("LATE", 0, True, False),
        ]
        driven.batch(("a", 11, 1)).end()
        assert [row[5:9] for row in driven.take()] == [("ON_TIME", 0, True, True)]

    def test_retractions_repeat_sums_to_the_last_digit(self) -> None:
        driven = Driven(spec(Sliding(20, 10), allowed_lateness=1_000, accumulation="retracting"))
        driven.batch(*[("a", time, time * 7919) for time in range(20)]).watermark(30)
        said: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for step in range(20):
            driven.batch(("a", step, step))
        for kind, key, start, end, *values, _ in driven.take():
            window = (key, start, end)
            if kind == "update_before":
                assert said.pop(window) == tuple(values)
            else:
                assert window not in said
                said[window] = tuple(values)
        assert len(said) == 3
