"""Event time as microseconds since 1970 in UTC, its two infinities, and durations as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

import polars as pl

from streamflow.errors import JobDefinitionError

__all__ = [
    "EARLIEST",
    "LATEST",
    "MAX_TIME",
    "MIN_TIME",
    "Duration",
    "Epoch",
    "TimeUnit",
    "epoch",
    "format_time",
    "parse_duration",
    "to_micros",
]

MIN_TIME: Final = -(2**63) + 1
"""Watermark −∞: nothing is known yet."""
MAX_TIME: Final = 2**63 - 1
"""Watermark +∞: the input has ended."""

EARLIEST: Final = -62_135_596_800_000_000
"""The first moment of the year 1: no event is earlier."""
LATEST: Final = 253_402_300_799_999_999
"""The last moment of the year 9999: no event is later. What calendars and Python's datetime hold ends here."""

Duration = str | timedelta
TimeUnit = Literal["s", "ms", "us", "ns"]

_UNITS: Final = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|w)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(
    value: Duration, *, what: str = "duration", positive: bool = False, negative: bool = True
) -> int:
    """A duration in microseconds; raises JobDefinitionError for what is none.

    Negative ones (`"-5m"`) are accepted unless `negative` is False or `positive` is set, which also refuses zero.

    >>> parse_duration("1h30m"), parse_duration("250ms"), parse_duration(timedelta(seconds=2))
    (5400000000, 250000, 2000000)
    """
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
    elif isinstance(value, str):
        micros = _parse_text(value.strip(), what)
    else:
        raise JobDefinitionError(
            f"{what} is {value!r}, which has no unit",
            hint='write it like "90s", "1h30m", or as a timedelta',
        )
    if positive and micros <= 0:
        raise JobDefinitionError(f"{what} is {value!r}", hint="it must be longer than zero")
    if not negative and micros < 0:
        raise JobDefinitionError(f"{what} is {value!r}", hint="it must not be negative")
    return micros


def _parse_text(text: str, what: str) -> int:
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text)
    parts = _PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise JobDefinitionError(
            f"{what} {text!r} is not a duration",
            hint=f'write it like "90s", "5m", "1h30m" (units: {", ".join(_UNITS)})',
        )
    return sign * sum(round(float(number) * _UNITS[unit]) for number, unit in parts)


def to_micros(value: datetime | date | str | int) -> int:
    """A point in time as microseconds; naive datetimes and texts mean UTC.

    >>> to_micros("1970-01-01T00:00:01Z"), to_micros(datetime(1970, 1, 2)), to_micros(date(1970, 1, 2))
    (1000000, 86400000000, 86400000000)
    """
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise JobDefinitionError(
                f"{value!r} is not a time", hint="write it like 2013-01-01T05:17:00Z"
            ) from error
    elif not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_time(micros: int) -> str:
    """A time as people read it; the infinities and what no calendar holds have names of their own.

    >>> format_time(0), format_time(MAX_TIME)
    ('1970-01-01T00:00:00Z', '+inf')
    """
    if micros >= MAX_TIME:
        return "+inf"
    if micros <= MIN_TIME:
        return "-inf"
    try:
        moment = _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return f"{micros} us"
    return moment.replace(tzinfo=None).isoformat() + "Z"


@dataclass(frozen=True, slots=True)
class Epoch:
    """An integer column of event times and its unit; make one with `epoch`."""

    column: str
    unit: TimeUnit

    def expression(self) -> pl.Expr:
        """The column as event time; null where it lies outside of EARLIEST to LATEST."""
        column = pl.col(self.column).cast(pl.Int64)
        if self.unit == "ns":  # 64 bits of nanoseconds are all within
            micros = column // 1_000
        else:
            scale = {"s": 1_000_000, "ms": 1_000, "us": 1}[self.unit]
            within = column.is_between(EARLIEST // scale, LATEST // scale)
            micros = pl.when(within).then(column * scale)
        return micros.cast(pl.Datetime("us", "UTC"))


def epoch(column: str, unit: TimeUnit = "ms") -> Epoch:
    """Event time from an integer column that counts since 1970 in UTC.

    >>> epoch("ts", unit="ms")
    Epoch(column='ts', unit='ms')
    """
    if unit not in ("s", "ms", "us", "ns"):
        raise JobDefinitionError(
            f"epoch unit {unit!r} is not one of s, ms, us, ns", hint='write it like sf.epoch("ts", unit="ms")'
        )
    return Epoch(column, unit)
