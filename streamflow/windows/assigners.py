"""Window assigners, as immutable data with all times in microseconds.

The constructors (`tumbling`, `sliding`, `cumulative`, `calendar`, `session`, `count_window`, `global_window`) take
durations as people write them and refuse what makes no sense. `windows.slicing` cuts windows into slices;
`operators.windows.merging` merges sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, get_args

import polars as pl

from streamflow.arguments import text
from streamflow.core.schema import EVENT_TIME_TYPE
from streamflow.errors import JobDefinitionError, represented, unknown_name
from streamflow.time.timestamps import Duration, format_duration, parse_duration
from streamflow.windows.own_assigner import WindowAssigner

__all__ = [
    "Assigner",
    "Calendar",
    "CalendarUnit",
    "CountWindow",
    "Cumulative",
    "GlobalWindow",
    "Session",
    "Sliding",
    "Tumbling",
    "calendar",
    "count_window",
    "cumulative",
    "fixed",
    "global_window",
    "session",
    "sliding",
    "tumbling",
]


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows of one size, one after the other: every event time is in exactly one."""

    size: int
    offset: int = 0
    name: ClassVar[str] = "tumbling"

    def __post_init__(self) -> None:
        _check(self.size, self.size, self.offset)

    def __str__(self) -> str:
        return f"tumbling({format_duration(self.size)}{_offset(self.offset)})"


@dataclass(frozen=True, slots=True)
class Sliding:
    """Windows of one size that start `every` so often; with `every` > `size` there are gaps between them."""

    size: int
    every: int
    offset: int = 0
    name: ClassVar[str] = "sliding"

    def __post_init__(self) -> None:
        _check(self.size, self.every, self.offset)

    def __str__(self) -> str:
        return f"sliding({format_duration(self.size)}, every={format_duration(self.every)}{_offset(self.offset)})"


@dataclass(frozen=True, slots=True)
class Cumulative:
    """Windows that begin together and grow by `step` until they are `size` long; then the next ones begin."""

    size: int
    step: int
    offset: int = 0
    name: ClassVar[str] = "cumulative"

    def __post_init__(self) -> None:
        _check(self.size, self.size, self.offset)
        if self.step <= 0:
            raise JobDefinitionError(
                f"the step of cumulative windows is {format_duration(self.step)}",
                hint="it must be longer than zero",
            )
        if self.size % self.step:
            raise JobDefinitionError(
                f"cumulative windows of {format_duration(self.size)} cannot grow by {format_duration(self.step)}",
                hint="the size has to be a multiple of the step",
            )

    def __str__(self) -> str:
        return f"cumulative({format_duration(self.size)}, step={format_duration(self.step)}{_offset(self.offset)})"


CalendarUnit = Literal["1d", "1w", "1mo"]


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days, weeks (from Monday) or months of a time zone, each beginning `offset` of the clock on the wall later."""

    unit: CalendarUnit
    tz: str
    offset: int = 0
    name: ClassVar[str] = "calendar"

    def __post_init__(self) -> None:
        units = get_args(CalendarUnit)
        if self.unit not in units:
            message, hint = unknown_name("calendar unit", str(self.unit), units)
            raise JobDefinitionError(
                message, hint=f"{hint}; windows that do not follow a calendar are tumbling(…)"
            )
        _check_zone(self.tz)
        shown = "28d, the shortest month" if self.unit == "1mo" else self.unit
        _check_offset(self.offset, _SHORTEST[self.unit], shown)

    def __str__(self) -> str:
        return f"calendar({self.unit}, tz={self.tz}{_offset(self.offset)})"


_SHORTEST: Final = {"1d": 86_400_000_000, "1w": 604_800_000_000, "1mo": 28 * 86_400_000_000}


@dataclass(frozen=True, slots=True)
class Session:
    """Windows that last as long as the events of a key are less than `gap` apart: [first, last + gap)."""

    gap: int
    name: ClassVar[str] = "session"

    def __post_init__(self) -> None:
        if self.gap <= 0:
            raise JobDefinitionError(
                f"session gap is {format_duration(self.gap)}", hint="it must be longer than zero"
            )

    def __str__(self) -> str:
        return f"session(gap={format_duration(self.gap)})"


@dataclass(frozen=True, slots=True)
class CountWindow:
    """Windows of `size` records of a key in order of event time, a new one after every `every` of them."""

    size: int
    every: int
    name: ClassVar[str] = "count"

    def __post_init__(self) -> None:
        for number, what in ((self.size, "n"), (self.every, "every")):
            if type(number) is not int or number < 1:
                raise JobDefinitionError(
                    f"count_window with {what}={represented(number)}", hint="it is a whole number from 1 on"
                )
        if self.every > self.size:
            raise JobDefinitionError(
                f"count_window({self.size}, every={self.every}) would leave out records between its windows",
                hint="every is at most the number of records in a window",
            )

    def __str__(self) -> str:
        return f"count_window({self.size}{'' if self.every == self.size else f', every={self.every}'})"


@dataclass(frozen=True, slots=True)
class GlobalWindow:
    """One window for all time; by itself it fires only when the input has ended."""

    name: ClassVar[str] = "global"

    def __str__(self) -> str:
        return "global_window()"


Assigner = Tumbling | Sliding | Cumulative | Calendar | Session | CountWindow | GlobalWindow | WindowAssigner


def tumbling(size: Duration, *, offset: Duration = "0s") -> Tumbling:
    """Windows of one size that follow one another, starting at multiples of `size` since 1970 plus `offset`.

    Start of the window of `t`: `t − floormod(t − offset, size)`. Raises JobDefinitionError for a size that is not
    positive and for an offset not shorter than it (Flink's rule).

    >>> tumbling("10s")
    Tumbling(size=10000000, offset=0)
    >>> str(tumbling("1d", offset="-8h"))
    'tumbling(1d, offset=-8h)'
    """
    return Tumbling(
        parse_duration(size, what="window size", positive=True), parse_duration(offset, what="window offset")
    )


fixed = tumbling


def sliding(size: Duration, *, every: Duration, offset: Duration = "0s") -> Sliding:
    """Windows of one size, a new one starting `every` so often.

    All windows `[s, s + size)` with `s ≡ offset (mod every)` that hold `t`; where `every` is longer than `size`, the
    times between two windows belong to none. Raises JobDefinitionError for sizes that are not positive and for an
    offset not shorter than `every` (Flink's rule).

    >>> sliding("1h", every="10m")
    Sliding(size=3600000000, every=600000000, offset=0)
    """
    return Sliding(
        parse_duration(size, what="window size", positive=True),
        parse_duration(every, what="window slide (every)", positive=True),
        parse_duration(offset, what="window offset"),
    )


def cumulative(size: Duration, *, step: Duration, offset: Duration = "0s") -> Cumulative:
    """Windows that begin together, at multiples of `size` plus `offset`, the first `step` long, the next twice that, up
    to `size`: the day so far, every hour.

    A record is in every window of its period that ends after it (Flink's CUMULATE). Raises JobDefinitionError for sizes
    that are not positive, for a size that is no multiple of the step, and for an offset not shorter than the size.

    >>> cumulative("1d", step="1h")
    Cumulative(size=86400000000, step=3600000000, offset=0)
    """
    return Cumulative(
        parse_duration(size, what="window size", positive=True),
        parse_duration(step, what="window step", positive=True),
        parse_duration(offset, what="window offset"),
    )


def calendar(unit: CalendarUnit, *, tz: str = "UTC", offset: Duration = "0s") -> Calendar:
    """Days (`"1d"`), weeks from Monday (`"1w"`) or months (`"1mo"`) as the clocks of a time zone show them.

    `tz` is any zone of the IANA database. A day on which the clocks change has 23 or 25 hours. A day begins when its
    midnight first comes; where the clocks jump over midnight, it begins at the jump. `offset` is a time on that clock:
    with `"6h"` days begin at six. Bounds in results are UTC. Raises JobDefinitionError for another unit or an unknown
    zone, and for an offset not shorter than the unit (of months: 28 days).

    >>> calendar("1d", tz="Europe/Berlin")
    Calendar(unit='1d', tz='Europe/Berlin', offset=0)
    """
    return Calendar(unit, tz, parse_duration(offset, what="window offset"))


def session(*, gap: Duration) -> Session:
    """Windows that close when a key has been quiet for `gap`.

    An event at `t` spans `[t, t + gap)`; spans of a key that intersect are one session, so two events exactly `gap`
    apart are in two (Beam's rule). Raises JobDefinitionError for a gap that is not positive.

    >>> session(gap="30m")
    Session(gap=1800000000)
    """
    return Session(parse_duration(gap, what="session gap", positive=True))


def count_window(n: int, *, every: int | None = None) -> CountWindow:
    """Windows of `n` records of a key in order of event time, one after the other; with `every`, after each so many
    records a window of the last `n`.

    Records of one time are ordered by what the aggregates read of them. A window is emitted when the watermark has
    passed its last record, with `window_start` at the first one's time and `window_end` right after the last one's. The
    first windows of a key may be smaller if `every` is less than `n`, and so is a last one for what is left when the
    input ends. Raises JobDefinitionError for numbers below 1 and an `every` above `n`.

    >>> count_window(100), count_window(100, every=10)
    (CountWindow(size=100, every=100), CountWindow(size=100, every=10))
    """
    return CountWindow(n, n if every is None else every)


def global_window() -> GlobalWindow:
    """One window for all time. By itself it fires once, when the input has ended.

    A result's event time is that of its key's latest record, so the watermark stays where it is behind such a window
    until its results are out.

    >>> global_window()
    GlobalWindow()
    """
    return GlobalWindow()


def _check(size: int, every: int, offset: int) -> None:
    if size <= 0:
        raise JobDefinitionError(
            f"window size is {format_duration(size)}", hint="it must be longer than zero"
        )
    if every <= 0:
        raise JobDefinitionError(
            f"window slide (every) is {format_duration(every)}", hint="it must be longer than zero"
        )
    _check_offset(offset, every, format_duration(every))


def _check_offset(offset: int, period: int, shown: str) -> None:
    if abs(offset) >= period:
        raise JobDefinitionError(
            f"window offset {format_duration(offset)} is not shorter than {shown}",
            hint="windows repeat, so an offset of that or more names one that is shorter already",
        )


def _check_zone(tz: str) -> None:
    try:
        text(tz, "tz")
        pl.Series([0]).cast(EVENT_TIME_TYPE).dt.convert_time_zone(tz)
    except (pl.exceptions.PolarsError, JobDefinitionError) as error:
        raise JobDefinitionError(
            f"{represented(tz)} is no time zone",
            hint='give a name of the IANA database, like "Europe/Berlin"',
        ) from error


def _offset(offset: int) -> str:
    return f", offset={format_duration(offset)}" if offset else ""
