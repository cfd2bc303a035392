"""Points in time: microseconds since 1970 in UTC, negative ones included, and how they come in and go out."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import JobDefinitionError
from streamflow.time.timestamps import MAX_TIME, MIN_TIME, TimeUnit, epoch, format_time, to_micros


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_datetime_is_exact(moment: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=to_micros(moment)) == moment


@given(st.integers(-(2**52), 2**52))
def test_text_and_back(micros: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert format_time(micros) == moment.isoformat().replace("+00:00", "Z")
    assert to_micros(format_time(micros)) == micros


def test_naive_means_utc_and_zones_are_converted() -> None:
    naive = datetime(2013, 1, 1, 5, 17)  # noqa: DTZ001 — what naive means is the point
    assert to_micros(naive) == to_micros(naive.replace(tzinfo=UTC)) == 1_357_017_420_000_000
    assert to_micros(naive.replace(tzinfo=timezone(timedelta(hours=1)))) == to_micros(naive) - 3_600_000_000
    assert to_micros("2013-01-01T06:17:00+01:00") == to_micros("2013-01-01T05:17:00Z") == to_micros(naive)


def test_before_1970_is_negative_and_dates_are_midnights() -> None:
    assert to_micros("1969-12-31T23:59:59.999999Z") == -1
    assert to_micros(date(1969, 12, 31)) == -86_400_000_000


def test_integers_are_microseconds_already() -> None:
    assert to_micros(-7) == -7


@pytest.mark.parametrize("text", ["yesterday", "", "2013-13-01", "25:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(JobDefinitionError, match="is not a time"):
        to_micros(text)


def test_infinities_and_what_no_calendar_holds_have_names() -> None:
    assert [format_time(t) for t in (MIN_TIME, MAX_TIME, 2**62)] == ["-inf", "+inf", f"{2**62} us"]


@pytest.mark.parametrize(
    ("unit", "value", "micros"),
    [("s", -3, -3_000_000), ("ms", 5, 5_000), ("us", 5, 5), ("ns", 5_999, 5), ("ns", -1, -1)],
)
def test_epoch_columns(unit: TimeUnit, value: int, micros: int) -> None:
    frame = pl.DataFrame({"ts": [value, None]}).select(epoch("ts", unit=unit).expression())
    assert frame.schema["ts"] == pl.Datetime("us", "UTC")
    assert frame["ts"].to_physical().to_list() == [micros, None]


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(JobDefinitionError, match="'min' is not one of s, ms, us, ns"):
        epoch("ts", unit="min")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 1.5, timedelta(1), b"2013"])
def test_other_values_are_no_times(value: Any) -> None:
    with pytest.raises(JobDefinitionError, match="is not a time"):
        to_micros(value)
