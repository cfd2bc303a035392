"""`TestClock`: processing time that stands still until a test moves it.

It implements the clock port (`streamflow.time.clock.Clock`). Sleepers wake in the order of their deadlines, those with
one deadline in the order in which they went to sleep, so that a run is the same every time.
"""

from __future__ import annotations

import asyncio
import heapq
from datetime import datetime
from itertools import count
from typing import ClassVar, Final

from streamflow.time.timestamps import Duration, parse_duration, to_micros

__all__ = ["START", "TestClock"]

START: Final = "2030-01-01T00:00:00Z"
"""The beginning of virtual time by default: later than the event times of recorded data, whose watermarks the bound
on future events would hold back otherwise."""


class TestClock:
    """Virtual processing time. Trio's `MockClock` is the model: tests jump, they never sleep.

    >>> clock = TestClock("2013-01-01T00:00:00Z")
    >>> clock.advance("90s")
    >>> clock.now(), clock.monotonic()
    (1356998490000000, 90.0)
    """

    __test__: ClassVar[bool] = False  # not a pytest class

    def __init__(self, start: datetime | str | int = START) -> None:
        """`start` is a datetime, ISO 8601 text, or microseconds since 1970 (UTC)."""
        self._start = to_micros(start)
        self._now = self._start
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> int:
        """Microseconds since 1970 in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return (self._now - self._start) / 1e6

    async def sleep(self, seconds: float) -> None:
        """Waits until the clock has been moved on by `seconds`; zero only lets other tasks run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        # A wait too short for microseconds still takes one: otherwise a loop that waits for a remainder would wait
        # for ever.
        deadline = self._now + max(1, round(seconds * 1e6))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (deadline, next(self._order), future))
        await future

    def advance(self, duration: Duration) -> None:
        """Moves on by a duration (`"10s"`, a timedelta), and wakes the sleepers that are due.

        They run when the event loop runs next, all at the new time; `TestJob` stops at each deadline. Raises
        JobDefinitionError for a duration that is not longer than zero.
        """
        self.advance_to(self._now + parse_duration(duration, what="the duration", positive=True))

    def advance_to(self, moment: datetime | str | int) -> None:
        """Moves on to a moment; one in the past leaves the clock unchanged."""
        self._now = max(self._now, to_micros(moment))
        while self._sleepers and self._sleepers[0][0] <= self._now:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    @property
    def next_wake(self) -> int | None:
        """The time at which the next sleeper wakes, in microseconds since 1970; None if there is none."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None
