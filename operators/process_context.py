"""What a process is handed with each event and timer: whose it is, when it is, and how rows and timers get out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal

from streamflow.errors import JobDefinitionError, RecordError, unknown_name
from streamflow.state.state_cache import GROUP, KEY, KEY_BYTES, Current
from streamflow.state.timers import TimerQueue
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

__all__ = ["Emitted", "ProcessContext", "Timer", "moment"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO: Final = timedelta(microseconds=1)
_MOST_AFTER_END: Final = 1_000_000


def moment(time: int) -> datetime:
    """Microseconds since 1970 as users see them; within the years 1 to 9999."""
    return _EPOCH + min(max(time, EARLIEST), LATEST) * _MICRO


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that is due: the moment for which it was set, and on which clock."""

    time: datetime
    clock: Literal["event", "processing"]


class Emitted:
    """Rows for one output, with their event times."""

    __slots__ = ("rows", "times")

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.times: list[int | None] = []


class ProcessContext:
    """The context of the event or timer that is being processed."""

    __slots__ = (
        "_after_end",
        "_clock",
        "_current",
        "_event_timers",
        "_processing_timers",
        "_rows",
        "_side",
        "_times",
        "_watermark",
    )

    def __init__(
        self,
        current: Current,
        clock: Clock,
        main: Emitted,
        side: Mapping[str, Emitted],
        event_timers: TimerQueue | None,
        processing_timers: TimerQueue,
    ) -> None:
        """`event_timers` is None where the stream has no event time."""
        self._current = current
        self._clock = clock
        self._rows: Callable[[Any], None] = main.rows.append
        self._times: Callable[[int | None], None] = main.times.append
        self._side = side
        self._event_timers = event_timers
        self._processing_timers = processing_timers
        self._watermark = MIN_TIME
        self._after_end = 0

    @property
    def key(self) -> Any:
        """The key: a value, or a tuple where the stream is keyed by several."""
        return self._current.slot[KEY]

    @property
    def timestamp(self) -> datetime | None:
        """The event time of the event, or the time of the timer; None where the stream has none."""
        time = self._current.time
        return None if time is None else moment(time)

    @property
    def watermark(self) -> datetime | None:
        """How far event time has come; None before the first watermark, the year 9999's end after the input's end."""
        return None if self._watermark == MIN_TIME else moment(self._watermark)

    @property
    def processing_time(self) -> datetime:
        """What the clock says."""
        return moment(self._clock.now())

    @property
    def ended(self) -> bool:
        """Whether the input has ended: the timers that are left are firing now."""
        return self._watermark == MAX_TIME

    def emit(self, row: Any) -> None:
        """Put out a row; its event time is that of the event or timer."""
        self._rows(row)
        self._times(self._current.time)

    def emit_to(self, output: str, row: Any) -> None:
        """Put out a row on a side output, one of those that the process declares in `outputs`."""
        emitted = self._side.get(output)
        if emitted is None:
            message, hint = unknown_name("output", output, self._side)
            raise JobDefinitionError(message, hint=f'{hint}, or declare it: outputs = {{"{output}": …}}')
        emitted.rows.append(row)
        emitted.times.append(self._current.time)

    def set_timer(self, at: datetime | date | str | int | timedelta) -> None:
        """Call `on_timer` for this key when event time has passed `at`: a moment (datetime, ISO 8601 text,
        microseconds) or a timedelta from `timestamp` on.

        Set twice it fires once. One for a moment that has passed fires with the next watermark.
        """
        slot = self._current.slot
        self._timed().add(self._at(at), slot[KEY_BYTES], slot[GROUP])
        if self._watermark == MAX_TIME:
            self._after_end += 1
            if self._after_end > _MOST_AFTER_END:
                raise JobDefinitionError(
                    f"on_timer has set {_MOST_AFTER_END} timers after the input's end",
                    hint="a timer that sets itself again never ends; do not where ctx.ended",
                )

    def delete_timer(self, at: datetime | date | str | int | timedelta) -> None:
        """Delete this key's timer for that moment, if it is set."""
        slot = self._current.slot
        self._timed().remove(self._at(at), slot[KEY_BYTES], slot[GROUP])

    def set_processing_timer(self, after: Duration) -> datetime:
        """Call `on_timer` for this key after so long by the clock; the moment when it will be due. One that is not due
        yet when the input ends does not fire."""
        slot = self._current.slot
        at = self._clock.now() + parse_duration(after, what="the timer", negative=False)
        self._processing_timers.add(at, slot[KEY_BYTES], slot[GROUP])
        return moment(at)

    def delete_processing_timer(self, at: datetime | int) -> None:
        """Delete this key's processing timer that is due at that moment, if it is set."""
        slot = self._current.slot
        self._processing_timers.remove(to_micros(at), slot[KEY_BYTES], slot[GROUP])

    def advance(self, watermark: int) -> None:
        """Event time has come that far. For the operator."""
        self._watermark = watermark

    def _timed(self) -> TimerQueue:
        if self._event_timers is None:
            raise JobDefinitionError(
                "an event-time timer needs event time, and this stream has none",
                hint='say it when reading: job.read(source, event_time="column"), or use set_processing_timer',
            )
        return self._event_timers

    def _at(self, at: datetime | date | str | int | timedelta) -> int:
        if not isinstance(at, timedelta):
            return to_micros(at)
        time = self._current.time
        if time is None:
            raise RecordError("a timer was set relative to an event that has no time")
        return time + at // _MICRO
