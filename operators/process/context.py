"""The context of an event or timer: its key, its time, and the ways for rows and timers out of the process."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

from streamflow.core.batch import RowBatch
from streamflow.core.copies import copied
from streamflow.errors import JobDefinitionError, RecordError, StreamflowError, unknown_name
from streamflow.state.keyed.cache import GROUP, KEY, KEY_BYTES, Current
from streamflow.state.keyed.timers import TimerQueue
from streamflow.time.clock import Clock
from streamflow.time.timestamps import (
    EARLIEST,
    LATEST,
    MAX_TIME,
    MIN_TIME,
    Duration,
    parse_duration,
    to_micros,
)

__all__ = ["Emitted", "Firing", "ProcessContext", "Timer", "moment"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO: Final = timedelta(microseconds=1)
_AGAIN: Final = 1_000


def moment(time: int) -> datetime:
    """Microseconds since 1970 as a datetime in UTC, clamped to the years 1 to 9999."""
    return _EPOCH + min(max(time, EARLIEST), LATEST) * _MICRO


def _of_record(parse: Callable[[Any], int], value: Any) -> int:
    """A time or duration given by user code for a record; an invalid one is that record's error."""
    try:
        return parse(value)
    except StreamflowError as error:
        raise RecordError(error.message, hint=error.hint) from error


@dataclass(frozen=True, slots=True)
class Timer:
    """A due timer: the moment it was set for, and its clock."""

    time: datetime
    clock: Literal["event", "processing"]


@dataclass(slots=True)
class Firing:
    """The event-time timer that fires now (None for none), and whether the input has ended; `last` is the last
    event's time."""

    time: int | None = None
    ended: bool = False
    last: int = MIN_TIME


class Emitted:
    """Rows for one output, with their event times, and the watermark before each if an operator behind reads it."""

    __slots__ = ("_callers", "_from", "marks", "rows", "times")

    def __init__(self, *, marked: bool = False) -> None:
        self._from: list[int] = []
        self._callers: list[str] = []
        self.rows: list[Any] = []
        self.times: list[int | None] = []
        self.marks: list[int] | None = [] if marked else None

    def cut(self, length: int) -> None:
        """Drops the rows from position `length` on."""
        for each in (self.rows, self.times, self.marks):
            if each is not None:
                del each[length:]
        while self._from and self._from[-1] > length:
            self._from.pop()
            self._callers.pop()

    def begins(self, method: str) -> None:
        """Notes that the following rows come from that method of the process."""
        if self._from and self._from[-1] == len(self.rows):
            self._callers[-1] = method
        else:
            self._from.append(len(self.rows))
            self._callers.append(method)

    def method_of(self, row: int) -> str:
        """The method of the process that put out the row at that position."""
        at = bisect_right(self._from, row)
        return self._callers[at - 1] if at else "on_event"

    def taken(self, *, timed: bool) -> RowBatch:
        """Takes the rows out as a batch. `method_of` knows them until `begin_again`."""
        times: Any = list(self.times) if timed else None
        batch = RowBatch(list(self.rows), times, None if self.marks is None else list(self.marks))
        for each in (self.rows, self.times, self.marks):
            if each is not None:
                each.clear()
        return batch

    def begin_again(self) -> None:
        """Forgets which methods the rows came from."""
        self._from.clear()
        self._callers.clear()


class ProcessContext:
    """The context of the event or timer that is being processed."""

    __slots__ = (
        "_again",
        "_clock",
        "_current",
        "_event_timers",
        "_firing",
        "_key_order",
        "_marks",
        "_processing_timers",
        "_rows",
        "_side",
        "_times",
    )

    def __init__(
        self,
        current: Current,
        clock: Clock,
        main: Emitted,
        side: Mapping[str, Emitted],
        event_timers: TimerQueue | None,
        processing_timers: TimerQueue,
        key_order: Sequence[int] | None,
        firing: Firing,
    ) -> None:
        """`event_timers` is None if the stream has no event time. `key_order` gives the position in the state's key
        of each part of the key that users see; None if the two are the same."""
        self._current = current
        self._clock = clock
        self._rows: Callable[[Any], None] = main.rows.append
        self._times: Callable[[int | None], None] = main.times.append
        self._marks: Callable[[int], None] | None = None if main.marks is None else main.marks.append
        self._side = side
        self._event_timers = event_timers
        self._processing_timers = processing_timers
        self._key_order = key_order
        self._firing = firing
        self._again = (b"", MIN_TIME, 0)
        """The last timer set by a timer of no earlier moment: the key, the setting timer's time, and the repetitions
        in a row."""

    @property
    def key(self) -> Any:
        """The key: a value, or a tuple if the stream is keyed by several columns."""
        key = self._current.slot[KEY]
        return key if self._key_order is None else tuple(key[at] for at in self._key_order)

    @property
    def timestamp(self) -> datetime | None:
        """The event time of the event, or the time of the timer; None if the stream has no event time."""
        time = self._current.time
        return None if time is None else moment(time)

    @property
    def watermark(self) -> datetime | None:
        """The watermark before the event, or the timer's time.

        None before the first watermark, and if the stream has no event time; the end of the year 9999 once the input
        has ended.
        """
        if self._firing.ended:
            return moment(MAX_TIME)
        watermark = self._current.watermark
        return None if watermark == MIN_TIME else moment(watermark)

    @property
    def processing_time(self) -> datetime:
        """The clock's time."""
        return moment(self._clock.now())

    @property
    def ended(self) -> bool:
        """Whether the input has ended: the remaining timers are firing now."""
        return self._firing.ended

    def emit(self, row: Any) -> None:
        """Puts out a row with its present content; its event time is that of the event or timer."""
        self._rows(copied(row))
        self._times(self._current.time)
        if self._marks is not None:
            self._marks(self._mark())

    def emit_to(self, output: str, row: Any) -> None:
        """Puts out a row on a side output, one of those that the process declares in `outputs`."""
        emitted = self._side.get(output)
        if emitted is None:
            message, hint = unknown_name("output", output, self._side)
            raise JobDefinitionError(message, hint=f'{hint}, or declare it: outputs = {{"{output}": …}}')
        emitted.rows.append(copied(row))
        emitted.times.append(self._current.time)
        if emitted.marks is not None:
            emitted.marks.append(self._mark())

    def set_timer(self, at: datetime | date | str | int | timedelta) -> None:
        """Sets a timer: `on_timer` is called for this key when event time has passed `at`, a moment (datetime, ISO
        8601 text, microseconds) or a timedelta from `timestamp` on.

        A timer set twice fires once. One for a moment that has passed fires before the key's next event, or with the
        next watermark. One that a timer sets after the input's end fires if its moment is later than that timer's and
        no later than the last event's.
        """
        slot, queue, time = self._current.slot, self._timed(), self._at(at)
        firing = self._firing
        if firing.time is not None and time <= firing.time and not firing.ended:
            self._fires_again(slot[KEY_BYTES], firing.time)
        if firing.time is None or not firing.ended or firing.time < time <= firing.last:
            queue.add(time, slot[KEY_BYTES], slot[GROUP])

    def delete_timer(self, at: datetime | date | str | int | timedelta) -> None:
        """Deletes this key's timer for that moment, if it is set."""
        slot = self._current.slot
        self._timed().remove(self._at(at), slot[KEY_BYTES], slot[GROUP])

    def set_processing_timer(self, after: Duration) -> datetime:
        """Sets a timer on the clock: `on_timer` is called for this key after `after`. Returns the moment when it is
        due.

        A processing timer that is not due yet when the input ends does not fire.
        """
        slot = self._current.slot
        at = self._clock.now() + _of_record(partial(parse_duration, what="the timer", negative=False), after)
        self._processing_timers.add(at, slot[KEY_BYTES], slot[GROUP])
        return moment(at)

    def delete_processing_timer(self, at: datetime | int) -> None:
        """Deletes this key's processing timer that is due at that moment, if it is set."""
        slot = self._current.slot
        self._processing_timers.remove(_of_record(to_micros, at), slot[KEY_BYTES], slot[GROUP])

    def _fires_again(self, key: bytes, firing: int) -> None:
        """Counts how often in a row timers of a key have set one that is due at once: event time would stand still."""
        before, moment_before, times = self._again
        times = times + 1 if key == before and firing <= moment_before else 1
        self._again = (key, firing, times)
        if times > _AGAIN:
            raise RecordError(
                f"on_timer set a timer that is due at once, {times:,} times in a row",
                hint="set it for a later moment than the firing timer's, or it fires for ever",
            )

    def _mark(self) -> int:
        """The watermark before a row put out now: a timer comes before the watermark that it waited for."""
        watermark, firing = self._current.watermark, self._firing.time
        return watermark if firing is None or watermark > firing else firing - 1

    def _timed(self) -> TimerQueue:
        if self._event_timers is None:
            raise JobDefinitionError(
                "an event-time timer needs event time, and this stream has none",
                hint='give it when reading: job.read(source, event_time="column"), or use set_processing_timer',
            )
        return self._event_timers

    def _at(self, at: datetime | date | str | int | timedelta) -> int:
        if not isinstance(at, timedelta):
            return _of_record(to_micros, at)
        time = self._current.time
        if time is None:
            raise RecordError("a timer was set relative to an event that has no time")
        return time + at // _MICRO
