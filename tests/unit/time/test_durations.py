"""Durations as people write them, and what is refused."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import JobDefinitionError
from streamflow.time.timestamps import MAX_TIME, parse_duration

LONGEST = timedelta(microseconds=MAX_TIME)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("90s", 90_000_000),
        ("5m", 300_000_000),
        ("1h30m", 5_400_000_000),
        ("1d", 86_400_000_000),
        ("2w", 1_209_600_000_000),
        ("250ms", 250_000),
        ("7us", 7),
        ("1.5s", 1_500_000),
        ("0s", 0),
        ("-5m", -300_000_000),
        (" 1s ", 1_000_000),
    ],
)
def test_text(text: str, micros: int) -> None:
    assert parse_duration(text) == micros


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 m", "5m-", "1h 30m", "--5m", "5M", "1e3s", "five minutes", "٣s5"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(JobDefinitionError, match="is not a duration") as raised:
        parse_duration(text, what="window size")
    assert "window size" in str(raised.value)
    assert '"1h30m"' in str(raised.value)


@pytest.mark.parametrize("value", [5, 1.5, None, b"5s"])
def test_bare_numbers_have_no_unit_and_are_refused(value: object) -> None:
    with pytest.raises(JobDefinitionError, match="which has no unit"):
        parse_duration(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["0s", "-1s", timedelta(0), timedelta(seconds=-1)])
def test_zero_and_less_are_refused_where_they_make_no_sense(value: str | timedelta) -> None:
    with pytest.raises(JobDefinitionError, match="longer than zero"):
        parse_duration(value, what="gap", positive=True)


@given(st.timedeltas(-LONGEST, LONGEST))
def test_a_timedelta_is_exact(delta: timedelta) -> None:
    assert timedelta(microseconds=parse_duration(delta)) == delta


@pytest.mark.parametrize(
    "value", [timedelta.max, timedelta.min, "9" * 20 + "w", "9" * 400 + "s", "0.1us", "1.0000001s"]
)
def test_no_duration_is_longer_than_all_time_or_finer_than_a_microsecond(value: object) -> None:
    with pytest.raises(JobDefinitionError):
        parse_duration(value)  # type: ignore[arg-type]


@given(
    st.integers(0, 400),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.integers(0, 999),
    st.integers(0, 999),
)
def test_parts_add_up(days: int, hours: int, minutes: int, seconds: int, millis: int, micros: int) -> None:
    delta = timedelta(days, seconds, micros, millis, minutes, hours)
    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s{millis}ms{micros}us") == parse_duration(delta)
