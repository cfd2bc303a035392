"""Cumulative, calendar and count windows, and the event time of results, as tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamflow.errors import JobDefinitionError
from streamflow.operators.windows.windowing import WindowAggregateSpec
from streamflow.time.timestamps import MAX_TIME
from streamflow.windows import aggregates as sf
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
from tests.unit.operators.driving import Driven

COUNTS = (("n", sf.count()), ("total", sf.sum("value")))
HOUR = 3_600_000_000


def spec(assigner: Assigner, **options: Any) -> WindowAggregateSpec:
    return WindowAggregateSpec(("key",), assigner, COUNTS, **options)


def at(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000


@pytest.fixture(params=[False, True], ids=["whole", "combined"])
def combine(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class TestCumulative:
    def test_windows_of_a_period_grow_by_a_step(self, combine: bool) -> None:
        driven = Driven(spec(Cumulative(30, 10)), combine=combine)
        driven.batch(("a", 5, 1), ("a", 12, 2), ("a", 31, 4), ("b", 25, 8)).watermark(9)
        assert driven.take() == [("a", 0, 10, 1, 1, 9)]
        assert driven.watermark(29).take() == [
            ("a", 0, 20, 2, 3, 19),
            ("a", 0, 30, 2, 3, 29),
            ("b", 0, 30, 1, 8, 29),
        ]
        assert driven.end().take() == [("a", 30, end, 1, 4, end - 1) for end in (40, 50, 60)]

    def test_a_record_is_late_when_the_last_window_of_its_period_is_over(self, combine: bool) -> None:
        driven = Driven(spec(Cumulative(30, 10), allowed_lateness=5), combine=combine)
        driven.batch(("a", 5, 1)).watermark(19).take()
        # [0, 10) is over; [0, 20) has fired, and may again; [0, 30) has not.
        assert driven.batch(("a", 6, 2)).take() == [("a", 0, 20, 2, 3, 19)]
        assert driven.watermark(29).take() == [("a", 0, 30, 2, 3, 29)]
        assert driven.batch(("a", 7, 4)).take() == [("a", 0, 30, 3, 7, 29)]
        assert (driven.watermark(34).batch(("a", 8, 8)).take(), driven.dropped) == ([], 1)

    def test_discarding_gives_what_is_new_and_later_windows_all_of_it(self, combine: bool) -> None:
        driven = Driven(
            spec(Cumulative(20, 10), allowed_lateness=20, accumulation="discarding"), combine=combine
        )
        driven.batch(("a", 5, 1)).watermark(9).take()
        assert driven.batch(("a", 6, 2)).take() == [("a", 0, 10, 1, 2, 9)]
        assert driven.end().take() == [("a", 0, 20, 2, 3, 19)]

    def test_a_window_replaces_no_pane_of_one_within_it(self, combine: bool) -> None:
        driven = Driven(
            spec(Cumulative(20, 10), allowed_lateness=50, accumulation="retracting"), combine=combine
        )
        driven.batch(("a", 5, 1)).watermark(19).take()
        driven.batch(("a", 15, 2))
        assert [row[:6] for row in driven.take()] == [
            ("update_before", "a", 0, 20, 1, 1),
            ("update_after", "a", 0, 20, 2, 3),
        ]

    def test_a_sparse_year_of_hours_fires_at_once(self, combine: bool) -> None:
        driven = Driven(spec(Cumulative(24 * HOUR, HOUR)), combine=combine)
        driven.batch(*[("a", day * 24 * HOUR + 20 * HOUR, 1) for day in range(365)]).end()
        assert [row[1:5] for row in driven.take()] == [
            (day * 24 * HOUR, (day * 24 + hour) * HOUR, 1, 1) for day in range(365) for hour in range(21, 25)
        ]


class TestCalendar:
    def test_days_on_which_the_clocks_change(self, combine: bool) -> None:
        driven = Driven(spec(Calendar("1d", "Europe/Berlin")), combine=combine)
        # The 31st of March 2024 has 23 hours in Berlin, the 27th of October 25.
        for day in ("2024-03-31T12:00", "2024-04-01T12:00", "2024-10-27T12:00"):
            driven.batch(("a", at(day), 1))
        assert [row[1:3] for row in driven.end().take()] == [
            (at("2024-03-30T23:00"), at("2024-03-31T22:00")),
            (at("2024-03-31T22:00"), at("2024-04-01T22:00")),
            (at("2024-10-26T22:00"), at("2024-10-27T23:00")),
        ]

    def test_a_day_closes_when_the_watermark_has_passed_its_midnight(self, combine: bool) -> None:
        driven = Driven(spec(Calendar("1d", "America/New_York"), allowed_lateness=HOUR), combine=combine)
        driven.batch(("a", at("2024-07-01T12:00"), 1), ("a", at("2024-07-02T12:00"), 2))
        midnight = at("2024-07-02T04:00")
        assert driven.watermark(midnight - 2).take() == []
        assert [row[3:5] for row in driven.watermark(midnight - 1).take()] == [(1, 1)]
        driven.batch(("a", at("2024-07-01T13:00"), 4))
        assert [row[1:5] for row in driven.take()] == [(at("2024-07-01T04:00"), midnight, 2, 5)]
        driven.watermark(midnight + HOUR - 1).batch(("a", at("2024-07-01T13:00"), 8))
        assert (driven.take(), driven.dropped) == ([], 1)

    def test_weeks_begin_on_monday_and_months_on_the_first(self, combine: bool) -> None:
        for unit, start, end in (
            ("1w", "2024-02-26", "2024-03-04"),
            ("1mo", "2024-02-01", "2024-03-01"),
        ):
            driven = Driven(spec(Calendar(unit, "UTC")), combine=combine)  # type: ignore[arg-type]
            driven.batch(("a", at("2024-02-29T23:59"), 1))
            assert [row[1:3] for row in driven.end().take()] == [(at(start), at(end))]

    def test_the_watermark_of_the_end_makes_no_table_of_all_time(self, combine: bool) -> None:
        driven = Driven(spec(Calendar("1d", "Asia/Tokyo")), combine=combine)
        driven.batch(("a", at("1999-05-05T00:00"), 1)).watermark(-(10**18)).watermark(MAX_TIME)
        assert len(driven.take()) == 1
        slices = driven.operator._slicing  # type: ignore[attr-defined]
        assert len(slices._table) < 2_000


class TestCounted:
    def test_every_n_records_in_order_of_event_time(self) -> None:
        driven = Driven(spec(CountWindow(3, 3)))
        driven.batch(("a", 9, 1), ("a", 2, 2), ("b", 4, 4), ("a", 5, 8), ("a", 7, 16)).watermark(6)
        assert driven.take() == []
        # 2, 5 and 7 are full; 9 comes later, before its turn or not.
        assert driven.watermark(7).take() == [("a", 2, 8, 3, 26, 7)]
        driven.batch(("a", 8, 32)).watermark(20)
        assert driven.take() == []
        assert driven.end().take() == [("b", 4, 5, 1, 4, 21), ("a", 8, 10, 2, 33, 21)]

    def test_the_last_n_after_every_few(self) -> None:
        driven = Driven(spec(CountWindow(3, 2)))
        driven.batch(*[("a", time, 1 << time) for time in range(7)]).watermark(6)
        assert driven.take() == [("a", 0, 2, 2, 3, 1), ("a", 1, 4, 3, 14, 3), ("a", 3, 6, 3, 56, 5)]
        driven.batch(("a", 9, 1 << 9)).watermark(9)
        assert driven.take() == [("a", 5, 10, 3, 32 + 64 + 512, 9)]
        assert driven.end().take() == []

    def test_late_records_are_given_out_or_counted(self) -> None:
        driven = Driven(spec(CountWindow(2, 2), late_used=True)).watermark(5)
        driven.batch(("a", 5, 1), ("a", 6, 2))
        assert driven.late() == [("a", 1, 5)]
        other = Driven(spec(CountWindow(2, 2))).watermark(5).batch(("a", 5, 1), ("a", 6, 2))
        assert other.dropped == 1
        assert other.end().take() == [("a", 6, 7, 1, 2, 6)]

    def test_a_batch_costs_what_its_keys_cost(self) -> None:
        driven = Driven(spec(CountWindow(4, 4)))
        driven.batch(*[(f"key-{number}", 1, 1) for number in range(5_000)]).watermark(1)
        looked_up: list[int] = []
        store = driven.operator._parts.store  # type: ignore[attr-defined]
        look_up = store.look_up

        def counted(pane: int, keys: Any) -> Any:
            found = look_up(pane, keys)
            looked_up.append(0 if found is None else found.height)
            return found

        store.look_up = counted
        driven.batch(("key-7", 2, 1), ("key-8", 2, 1)).watermark(2)
        assert looked_up == [2]

    def test_what_makes_no_sense_is_refused(self) -> None:
        for options, said in (
            ({"allowed_lateness": 1}, "no place for late records"),
            ({"timestamp": "earliest"}, "earliest"),
        ):
            with pytest.raises(JobDefinitionError, match=said):
                Driven(spec(CountWindow(2, 2), **options))


class TestTimestamps:
    @pytest.mark.parametrize(
        ("timestamp", "times"), [("end", (9, 19)), ("earliest", (3, 11)), ("latest", (6, 11))]
    )
    def test_tumbling(self, combine: bool, timestamp: str, times: tuple[int, int]) -> None:
        driven = Driven(spec(Tumbling(10), timestamp=timestamp, allowed_lateness=20), combine=combine)
        driven.batch(("a", 6, 1), ("a", 3, 1), ("a", 11, 1))
        driven.operator.on_watermark(19, driven.out)
        assert [row[-1] for row in driven.take()] == list(times)
        # A late record is part of it.
        driven.batch(("a", 2, 1), ("a", 8, 1))
        assert [row[-1] for row in driven.take()] == [{"end": 9, "earliest": 2, "latest": 8}[timestamp]]

    @pytest.mark.parametrize(
        ("assigner", "watermark", "held"),
        [
            (Tumbling(10), 12, 9),
            (Tumbling(10), 18, 9),
            (Tumbling(10), 19, 19),
            (Sliding(30, 10), 39, 19),  # [20, 50) is open
            (Sliding(3, 10), 5, 5),
            (Cumulative(30, 10), 39, 29),
            (Calendar("1d", "UTC"), 30 * HOUR, 24 * HOUR - 1),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("timestamp", ["earliest", "latest"])
    def test_the_watermark_waits_for_the_beginning_of_open_windows(
        self, assigner: Assigner, watermark: int, held: int, timestamp: str
    ) -> None:
        driven = Driven(spec(assigner, timestamp=timestamp))
        assert driven.operator.on_watermark(watermark, driven.out) == held
        assert driven.operator.on_watermark(MAX_TIME, driven.out) == MAX_TIME

    def test_sessions(self, combine: bool) -> None:
        driven = Driven(spec(Session(10), timestamp="latest"), combine=combine)
        driven.batch(("a", 1, 1), ("a", 5, 1))
        assert driven.operator.on_watermark(14, driven.out) == 5
        assert driven.take() == [("a", 1, 15, 2, 2, 5)]
        with pytest.raises(JobDefinitionError, match="earliest"):
            Driven(spec(Session(10), timestamp="earliest"))

    def test_the_global_window(self, combine: bool) -> None:
        for timestamp, time in (("end", 7), ("latest", 7), ("earliest", 2)):
            driven = Driven(spec(GlobalWindow(), timestamp=timestamp), combine=combine)
            assert driven.batch(("a", 7, 1), ("a", 2, 1)).end().take() == [("a", 2, 2, time)]
