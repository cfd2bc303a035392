"""Window assigners: tumbling, sliding, session and global, as immutable data with all times in microseconds.

The constructors (`tumbling`, `sliding`, `session`, `global_window`) take durations as people write them and refuse
what makes no sense. `windows.slicing` cuts windows into slices; `operators.windows.merging` merges sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from streamflow.errors import JobDefinitionError
from streamflow.time.timestamps import Duration, parse_duration

__all__ = [
    "Assigner",
    "GlobalWindow",
    "Session",
    "Sliding",
    "Tumbling",
    "fixed",
    "global_window",
    "session",
    "sliding",
    "tumbling",
]

_UNITS = (
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
)


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows of one size, one after the other: every event time is in exactly one."""

    size: int
    offset: int = 0
    name: ClassVar[str] = "tumbling"

    def __post_init__(self) -> None:
        _check(self.size, self.size, self.offset)

    def __str__(self) -> str:
        return f"tumbling({_text(self.size)}{_offset(self.offset)})"


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
        return f"sliding({_text(self.size)}, every={_text(self.every)}{_offset(self.offset)})"


@dataclass(frozen=True, slots=True)
class Session:
    """Windows that last as long as the events of a key are less than `gap` apart: [first, last + gap)."""

    gap: int
    name: ClassVar[str] = "session"

    def __post_init__(self) -> None:
        if self.gap <= 0:
            raise JobDefinitionError(f"session gap is {_text(self.gap)}", hint="it must be longer than zero")

    def __str__(self) -> str:
        return f"session(gap={_text(self.gap)})"


@dataclass(frozen=True, slots=True)
class GlobalWindow:
    """One window for all time; by itself it fires only when the input has ended."""

    name: ClassVar[str] = "global"

    def __str__(self) -> str:
        return "global_window()"


Assigner = Tumbling | Sliding | Session | GlobalWindow


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


def session(*, gap: Duration) -> Session:
    """Windows that close when a key has been quiet for `gap`.

    An event at `t` spans `[t, t + gap)`; spans of a key that intersect are one session, so two events exactly `gap`
    apart are in two (Beam's rule). Raises JobDefinitionError for a gap that is not positive.

    >>> session(gap="30m")
    Session(gap=1800000000)
    """
    return Session(parse_duration(gap, what="session gap", positive=True))


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
        raise JobDefinitionError(f"window size is {_text(size)}", hint="it must be longer than zero")
    if every <= 0:
        raise JobDefinitionError(
            f"window slide (every) is {_text(every)}", hint="it must be longer than zero"
        )
    if abs(offset) >= every:
        raise JobDefinitionError(
            f"window offset {_text(offset)} is not shorter than {_text(every)}",
            hint="windows repeat, so an offset of that or more names one that is shorter already",
        )


def _offset(offset: int) -> str:
    return f", offset={_text(offset)}" if offset else ""


def _text(micros: int) -> str:
    """A duration as people write it: `1h30m`."""
    if micros == 0:
        return "0s"
    rest = abs(micros)
    parts: list[str] = []
    for unit, length in _UNITS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if micros < 0 else "") + "".join(parts)
