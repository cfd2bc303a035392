"""`WindowAssigner`: the base class of own windows, and the checks of what its methods give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import polars as pl

from streamflow.core.schema import EVENT_TIME_TYPE
from streamflow.errors import RecordError, Where, cut, represented
from streamflow.time.timestamps import format_time
from streamflow.user_code import line_of_definition, user_error

__all__ = ["WindowAssigner", "assigned", "merged"]


class WindowAssigner(ABC):
    """Windows of your own: a subclass says with `assign` which window each time is in.

    With `merging = True` the windows of a key that intersect become one, as sessions do; `merge` can say otherwise. An
    assigner is called on one thread at a time, and has to give the same for the same times. Its fields tell assigners
    apart in plans and checkpoints.

    >>> import streamflow as sf
    >>> class Shifts(sf.WindowAssigner):
    ...     '''Early until 14:00, late until 22:00; at night nobody counts.'''
    ...     def assign(self, times):
    ...         hour = times.dt.hour()
    ...         day = times.dt.truncate("1d")
    ...         begins = pl.select(pl.when(hour < 6).then(None).when(hour < 14).then(6).when(hour < 22).then(14))
    ...         starts = day + pl.duration(hours=begins.to_series())
    ...         return pl.select(starts).to_series(), pl.select(starts + pl.duration(hours=8)).to_series()
    >>> str(Shifts())
    'Shifts()'
    """

    merging: ClassVar[bool] = False

    @abstractmethod
    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        """The start and the end of the window of each of these times (`Datetime("us", "UTC")`), as times or as
        microseconds since 1970; null for a time that is in no window, which is then counted.

        A window holds the times from its start up to its end, which is not part of it.
        """

    def merge(self, starts: pl.Series, ends: pl.Series) -> tuple[pl.Series, pl.Series]:
        """The windows that those of one key become (microseconds since 1970, ascending by start), one for each:
        windows that come out equal become one, and no two others may intersect.

        As it stands, windows that intersect become one with the bounds of all of them.
        """
        opens = (starts >= ends.cum_max().shift(1)).fill_null(True)
        number = opens.cum_sum()
        merged = pl.DataFrame({"start": starts, "end": ends, "number": number}).select(
            pl.col("start").min().over("number"), pl.col("end").max().over("number")
        )
        return merged["start"], merged["end"]

    def __str__(self) -> str:
        fields: Any = getattr(type(self), "__dataclass_fields__", None)
        names: list[str] = list(vars(self) if fields is None else fields)
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({shown})"


def assigned(
    assigner: WindowAssigner, times: pl.Series, record: Callable[[int], object]
) -> tuple[pl.Series, pl.Series]:
    """The windows of these times in microseconds, checked; raises RecordError for bounds that are no windows, with the
    `record` at the first place where it is so alone."""
    try:
        return _assigned(assigner, times)
    except RecordError as error:
        place = _first_wrong(assigner, times)
        if place is not None:
            error.record = cut(record(place))
        raise


def _assigned(assigner: WindowAssigner, times: pl.Series) -> tuple[pl.Series, pl.Series]:
    given = _called(assigner, "assign", times.cast(EVENT_TIME_TYPE))
    starts, ends = _checked(assigner, given, len(times), "assign")
    if not (starts.is_null() == ends.is_null()).all():
        raise _wrong(assigner, "assign", "gave a start without an end, or an end without a start")
    return starts, ends


def _first_wrong(assigner: WindowAssigner, times: pl.Series) -> int | None:
    """The place of the first time that is wrong by itself; None if no time is."""
    if len(times) > 1:
        middle = len(times) // 2
        for first, half in ((0, times[:middle]), (middle, times[middle:])):
            try:
                _assigned(assigner, half)
            except RecordError:
                place = _first_wrong(assigner, half)
                return None if place is None else first + place
        return None
    return 0


def merged(
    assigner: WindowAssigner, starts: pl.Series, ends: pl.Series, key: Mapping[str, object]
) -> tuple[pl.Series, pl.Series]:
    """The windows that those of one key become, checked; raises RecordError for bounds that are no windows, with the
    key and its windows."""
    try:
        return _merged(assigner, starts, ends)
    except RecordError as error:
        pairs = zip(starts.to_list(), ends.to_list(), strict=True)
        windows = [f"{format_time(start)} to {format_time(end)}" for start, end in pairs]
        error.record = cut({**key, "windows": windows})
        raise


def _merged(assigner: WindowAssigner, starts: pl.Series, ends: pl.Series) -> tuple[pl.Series, pl.Series]:
    given = _called(assigner, "merge", starts, ends)
    starts, ends = _checked(assigner, given, len(starts), "merge")
    bounds = pl.DataFrame({"start": starts, "end": ends}).unique().sort("start", "end")
    if starts.has_nulls() or ends.has_nulls():
        raise _wrong(assigner, "merge", "gave no window for one")
    if (bounds["start"] < bounds["end"].shift(1)).any():
        raise _wrong(assigner, "merge", "gave windows that intersect")
    return starts, ends


def _called(assigner: WindowAssigner, method: str, *arguments: pl.Series) -> object:
    try:
        given: object = getattr(assigner, method)(*arguments)
        return given
    except BaseException as raised:
        raise user_error(
            f"{type(assigner).__name__}.{method}",
            raised,
            hint="it is called with whole Series: the times of a batch, or the windows of a key",
        ) from raised


def _checked(
    assigner: WindowAssigner, given: object, length: int, method: str
) -> tuple[pl.Series, pl.Series]:
    bounds = cast("Sequence[object]", given)
    if not isinstance(given, tuple) or len(bounds) != 2:
        raise _wrong(assigner, method, f"gave {cut(represented(bounds), 60)}, not two Series")
    starts, ends = (_micros(assigner, each, length, method) for each in bounds)
    if (starts >= ends).any():
        raise _wrong(assigner, method, "gave a window that ends where it starts, or before")
    return starts, ends


def _micros(assigner: WindowAssigner, times: object, length: int, method: str) -> pl.Series:
    if not isinstance(times, pl.Series):
        raise _wrong(assigner, method, f"gave a {type(times).__name__}, not a Series")
    if len(times) != length:
        raise _wrong(assigner, method, f"gave {len(times)} bounds for {length} times")
    if isinstance(times.dtype, pl.Datetime):
        return times.cast(pl.Datetime("us", times.dtype.time_zone)).to_physical()
    if times.dtype.is_integer() or times.dtype == pl.Null():
        return times.cast(pl.Int64)
    raise _wrong(assigner, method, f"gave bounds of type {times.dtype}")


def _wrong(assigner: WindowAssigner, method: str, what: str) -> RecordError:
    return RecordError(
        f"{type(assigner).__name__}.{method} {what}",
        where=Where(code=line_of_definition(getattr(type(assigner), method))),
        hint="return starts and ends, a value for each time, as times or as microseconds since 1970",
    )
