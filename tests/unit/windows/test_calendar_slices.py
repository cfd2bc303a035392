"""Days, weeks and months of time zones, against Python's own zones, minute by minute."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import JobDefinitionError
from streamflow.windows.assigners import Calendar, CalendarUnit, calendar
from streamflow.windows.calendar_slices import CalendarSlices

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
naive = datetime  # times on a wall have no zone
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # the clocks change by half an hour
    "America/Havana",  # midnight comes twice in autumn, and not at all in spring
    "Asia/Beirut",  # no midnight in spring
    "America/St_Johns",  # until 2011 the clocks changed at a minute past midnight
    "Pacific/Apia",  # without the 30th of December 2011
]


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def wall(moment: datetime, zone: str) -> datetime:
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@cache
def beginning(local: datetime, zone: str) -> int:
    """The first minute at which the clocks show this or later, by looking at all of them."""
    moment = local.replace(tzinfo=UTC) - timedelta(hours=27)
    while wall(moment, zone) < local:
        moment += MINUTE
    return micros(moment)


def period(local: date, unit: str, further: int) -> date:
    """The first day of the period that holds a date, or of one further on."""
    match unit:
        case "1d":
            return local + timedelta(days=further)
        case "1w":
            return local - timedelta(days=local.weekday()) + timedelta(weeks=further)
        case _:
            months = local.year * 12 + local.month - 1 + further
            return date(months // 12, months % 12 + 1, 1)


def expected(time: int, assigner: Calendar) -> tuple[int, int]:
    """The window that holds a time: of those around it, the one that begins before and ends after."""
    offset = timedelta(microseconds=assigner.offset)
    local = wall(EPOCH + timedelta(microseconds=time), assigner.tz) - offset
    begins = [
        beginning(
            datetime.combine(period(local.date(), assigner.unit, further), datetime.min.time()) + offset,
            assigner.tz,
        )
        for further in (-1, 0, 1, 2)
    ]
    (found,) = [(a, b) for a, b in itertools.pairwise(begins) if a <= time < b]
    return found


moments = st.one_of(
    st.datetimes(naive(2001, 1, 1), naive(2036, 1, 1)),
    # Around changes of the clocks.
    st.tuples(
        st.sampled_from(
            [
                naive(2024, 3, 31, 1),
                naive(2024, 10, 27, 1),
                naive(2010, 11, 7, 3),
                naive(2012, 3, 31, 22),
                naive(2012, 11, 4, 5),
                naive(2012, 4, 1, 5),
                naive(2011, 12, 30, 10),
                naive(2024, 4, 6, 15),
            ]
        ),
        st.integers(-3_000, 3_000),
    ).map(lambda pair: pair[0] + timedelta(minutes=pair[1])),
)


@given(
    times=st.lists(moments, min_size=1, max_size=6),
    unit=st.sampled_from(["1d", "1w", "1mo"]),
    zone=st.sampled_from(ZONES),
    hours=st.sampled_from([0, 0, 6, -3]),
)
def test_windows_are_the_periods_that_the_clocks_show(
    times: list[datetime], unit: CalendarUnit, zone: str, hours: int
) -> None:
    assigner = calendar(unit, tz=zone, offset=timedelta(hours=hours))
    slices = CalendarSlices.of(assigner)
    at = [micros(moment.replace(tzinfo=UTC)) for moment in times]
    windows = [expected(time, assigner) for time in at]
    column = pl.Series(at, dtype=pl.Int64)
    assert list(zip(slices.start(column), slices.end_after(column), strict=True)) == windows
    starts, ends = slices.start(column), slices.last_end(slices.start(column))
    assert slices.start_of(ends).to_list() == starts.to_list() == [start for start, _ in windows]
    for time, (start, end) in zip(at, windows, strict=True):
        assert (slices.start(time), slices.end_until(time), slices.end_after(time)) == (start, start, end)
        assert slices.ends(end, end) == [end]


def test_periods_follow_one_another_from_the_first_year_to_the_last() -> None:
    slices = CalendarSlices(Calendar("1mo", "America/Sao_Paulo"))
    first, last = -62_135_596_800_000_000, 253_402_300_799_999_999
    assert slices.start(first) <= first < slices.end_after(first)
    assert slices.start(last) <= last < slices.end_after(last)
    ends = slices.ends(slices.end_after(first), slices.end_after(last))
    assert len(ends) in range(119_980, 119_995)
    assert all(one < other for one, other in itertools.pairwise(ends))
    # The watermarks before all events and behind them lie outside.
    assert slices.end_until(-(2**63)) < first
    assert slices.end_until(2**63) >= slices.end_after(last)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: calendar("1h"), "no calendar unit '1h'"),  # type: ignore[arg-type]
        (lambda: calendar("1d", tz="Europe/Bonn"), "'Europe/Bonn' is no time zone"),
        (lambda: calendar("1d", tz=""), "'' is no time zone"),
        (lambda: calendar("1d", tz=None), "None is no time zone"),  # type: ignore[arg-type]
        (lambda: calendar("1d", offset="24h"), "offset 1d is not shorter than 1d"),
        (lambda: calendar("1mo", offset="28d"), "not shorter than 28d, the shortest month"),
    ],
)
def test_nonsense_is_refused(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(JobDefinitionError, match=said):
        make()


def test_reads_as_it_is_written() -> None:
    assert str(calendar("1w", tz="Asia/Tokyo", offset="1d")) == "calendar(1w, tz=Asia/Tokyo, offset=1d)"
