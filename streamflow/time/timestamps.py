"""Event time as microseconds since 1970 in UTC, its two infinities, and durations as people write them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal

import polars as pl

from streamflow.errors import JobDefinitionError, cut, represented

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
"""The last moment of the year 9999: no event is later, as calendars and Python's datetime end here."""

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
_PART = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)(us|ms|s|m|h|d|w)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(
    value: Duration, *, what: str = "duration", positive: bool = False, negative: bool = True
) -> int:
    """A duration in microseconds; raises JobDefinitionError for anything else.

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
    if not -MAX_TIME <= micros <= MAX_TIME:
        raise JobDefinitionError(
            f"{what} is {cut(repr(value))}", hint="that is longer than all time there is"
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
    micros = sum(Fraction(number) * _UNITS[unit] for number, unit in parts)
    if micros.denominator != 1:
        raise JobDefinitionError(f"{what} is {text!r}", hint="durations are whole microseconds")
    return sign * int(micros)


def format_duration(micros: int) -> str:
    """A duration as people write it, of days at most; the inverse of `parse_duration`.

    >>> format_duration(5_400_000_000), format_duration(-1_000), format_duration(0)
    ('1h30m', '-1ms', '0s')
    """
    rest = abs(micros)
    parts: list[str] = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if micros < 0 else "") + "".join(parts) if parts else "0s"


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
    elif not isinstance(value, date):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise JobDefinitionError(
            f"{cut(represented(value), 60)} is not a time",
            hint="give a datetime, or text like 2013-01-01T05:17:00Z",
        )
    elif not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_time(micros: int) -> str:
    """A time as people read it; the infinities and times outside of the calendar have names of their own.

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
    """A column of event times counted since 1970, and its unit; make one with `epoch`."""

    column: str
    unit: TimeUnit

    def expression(self, dtype: pl.DataType | None = None) -> pl.Expr:
        """The column as event times of this type; null for times outside of EARLIEST to LATEST."""
        column = pl.col(self.column)
        scale = _SCALES[self.unit]
        if dtype is not None and (dtype.is_float() or dtype.is_decimal()):
            numbers = column.cast(pl.Float64)
            counts = (numbers / 1_000 if scale == 0 else numbers * scale).round()
            within = counts.is_finite() & counts.is_between(float(EARLIEST), float(LATEST))
            micros = pl.when(within).then(counts).cast(pl.Int64)
        elif scale == 0:  # 64 bits of nanoseconds are all within
            micros = column.cast(pl.Int64) // 1_000
        else:
            counts = column.cast(pl.Int64, strict=dtype is None or not dtype.is_integer())
            within = counts.is_between(EARLIEST // scale, LATEST // scale)
            micros = pl.when(within).then(counts * scale)
        return micros.cast(pl.Datetime("us", "UTC"))

    def micros(self, value: Any) -> int:
        """One value as microseconds, fractions to the nearest; raises JobDefinitionError for anything but a number.

        >>> epoch("ts", unit="s").micros(-0.9)
        -900000
        """
        scale = _SCALES[self.unit]
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value):
            value = int(value)
        if isinstance(value, (float, Decimal)) and math.isfinite(value):
            number = float(value)
            return round(number / 1_000 if scale == 0 else number * scale)
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise JobDefinitionError(
                f"event time {self.column} is {value!r}, a {type(value).__name__}, and no count of {self.unit}"
            )
        count = int(value)
        return count // 1_000 if scale == 0 else count * scale


_SCALES: Final = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 0}
"""Microseconds per unit; a nanosecond is a thousandth of one."""


def epoch(column: str, unit: TimeUnit = "ms") -> Epoch:
    """Event time from a column of numbers counted since 1970 in UTC; fractions are rounded to the nearest
    microsecond.

    >>> epoch("ts", unit="ms")
    Epoch(column='ts', unit='ms')
    """
    if unit not in ("s", "ms", "us", "ns"):
        raise JobDefinitionError(
            f"epoch unit {unit!r} is not one of s, ms, us, ns", hint='write it like sf.epoch("ts", unit="ms")'
        )
    if not isinstance(column, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise JobDefinitionError(
            f"epoch got {column!r}, and takes the name of a column",
            hint="make the column with with_columns(…) before, or give event_time= an expression of a Datetime",
        )
    return Epoch(column, unit)
