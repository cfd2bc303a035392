"""January's results, on three made-up windows."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from typing import cast

import polars as pl
import pytest

from streamflow.demo.board import Board, Pane
from streamflow.demo.results import final_panes, results

EIGHT = datetime(2013, 1, 5, 13, 0, tzinfo=UTC)
TEN_PAST = datetime(2013, 1, 5, 13, 10, tzinfo=UTC)
LATE_EVENING = datetime(2013, 1, 6, 4, 0, tzinfo=UTC)


def _pane(
    start: datetime, flights: int, cancelled: int, mean: float | None, worst: int | None
) -> dict[str, object]:
    end = start.replace(hour=(start.hour + 1) % 24)
    return {
        "origin": "JFK",
        "window_start": start,
        "window_end": end,
        "flights": flights,
        "cancelled": cancelled,
        "mean_delay": mean,
        "worst": worst,
    }


PANES = pl.DataFrame(
    [
        _pane(EIGHT, 5, 0, 10.0, 20),
        _pane(TEN_PAST, 8, 0, 50.0, 90),
        _pane(EIGHT, 7, 1, 15.0, 60),
        _pane(LATE_EVENING, 4, 1, 1.0, 3),
    ]
)
AIRCRAFT = pl.DataFrame({"tailnum": ["N2", "N1"], "window_start": [EIGHT, EIGHT], "departures": [2, 3]})


def test_the_last_pane_of_a_window_counts() -> None:
    assert final_panes(PANES).select("window_start", "flights").rows() == [
        (EIGHT, 7),
        (TEN_PAST, 8),
        (LATE_EVENING, 4),
    ]
    assert results(PANES, AIRCRAFT).corrections == 1


def test_each_flight_counts_once_and_means_are_weighted_by_departures() -> None:
    came_to = results(PANES, AIRCRAFT)
    [airport] = came_to.airports.to_dicts()
    assert (airport["flights"], airport["cancelled"], airport["worst"]) == (11, 2, 60)
    assert airport["mean_delay"] == pytest.approx((6 * 15.0 + 3 * 1.0) / 9)
    assert (airport["worst_hour"], airport["worst_hour_delay"]) == (TEN_PAST, 50.0)


def test_days_are_new_york_s() -> None:
    came_to = results(PANES, AIRCRAFT)
    assert came_to.daily["day"].to_list() == [date(2013, 1, 5)]
    [(day, mean)] = came_to.worst_days(3)
    assert day == date(2013, 1, 5)
    assert mean == pytest.approx(93 / 9)


def test_the_digest_is_that_of_the_results_not_of_their_order() -> None:
    again = results(pl.concat([PANES[2:], PANES[1:2]]), AIRCRAFT.reverse())
    assert again.digest == results(PANES, AIRCRAFT).digest
    other = PANES.with_columns(pl.col("worst") + 1)
    assert results(other, AIRCRAFT).digest != again.digest


def test_nothing_yet_is_no_error() -> None:
    came_to = results(PANES.clear(), AIRCRAFT.clear())
    assert came_to.airports.is_empty()
    assert came_to.worst_days(3) == []


def test_the_board_shows_the_newest_window_and_takes_corrections_into_the_day() -> None:
    board = Board()
    asyncio.run(board.show(cast("list[Pane]", PANES[:2].to_dicts())))
    asyncio.run(board.show(cast("list[Pane]", PANES[2:].to_dicts())))
    assert (board.windows, board.corrections) == (3, 1)
    now = board.airports["JFK"]
    assert now.newest["window_start"] == LATE_EVENING
    assert now.daily_means() == [pytest.approx(93 / 9)]
    [(total, departed)] = now.days.values()
    assert total == pytest.approx(93.0)
    assert departed == 9
