"""An event loop that a test steps by hand: it runs until nothing is ready, and its time is virtual.

`asyncio.sleep`, `asyncio.timeout` and the like see the test clock's time too, since the loop's own timers run on it.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

from streamflow.errors import JobFailedError
from streamflow.testing.clock import TestClock

__all__ = ["SteppedLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MOST_ROUNDS: Final = 1_000_000
_LONGEST: Final = 7 * 86_400_000_000
"""The longest run in virtual time, a week: a longer one waits for something that never comes."""


class SteppedLoop(asyncio.SelectorEventLoop):
    """A private event loop under a test's control. Nothing in it waits for real time, and it has no threads.

    >>> clock = TestClock()
    >>> loop = SteppedLoop(clock)
    >>> nap = loop.create_task(asyncio.sleep(3600, "awake"))
    >>> loop.settle(); nap.done()
    False
    >>> loop.advance_to(clock.now() + 3_600_000_000); nap.result()
    'awake'
    >>> loop.close()
    """

    def __init__(self, clock: TestClock) -> None:
        self._clock = clock
        self._calls = 0
        self._timers: list[int] = []
        super().__init__()

    def time(self) -> float:
        """The test clock's seconds."""
        return self._clock.monotonic()

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._calls += 1
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        # Rounded up (but not for the sake of a float's last digit), so that the timer is due when its turn comes.
        wait = math.ceil((when - self.time()) * 1e6 - 1e-4)
        heapq.heappush(self._timers, self._clock.now() + max(0, wait))
        return super().call_at(when, callback, *args, context=context)

    def settle(self) -> None:
        """Runs until nothing is ready any more; raises JobFailedError if that does not end."""
        for _ in range(_MOST_ROUNDS):
            before = self._calls
            self.call_soon(self.stop)
            self.run_forever()
            if self._calls == before + 1:
                return
        raise JobFailedError(
            "the job does not come to rest", hint="something in it runs again and again without waiting"
        )

    def advance_to(self, moment: int) -> None:
        """Moves virtual time to `moment` (microseconds since 1970), stopping wherever a sleeper wakes on the way."""
        self.settle()
        while (wake := self.next_wake) is not None and wake <= moment:
            self._step_to(wake)
        self._clock.advance_to(moment)
        self.settle()

    @property
    def next_wake(self) -> int | None:
        """The time of the next sleeper or timer; None if there is none."""
        candidates = [self._clock.next_wake, self._timers[0] if self._timers else None]
        return min((wake for wake in candidates if wake is not None), default=None)

    def run_virtually(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end; whenever all tasks wait for time, time jumps to the first.

        Raises the coroutine's errors, and JobFailedError if everything waits for something that never comes.
        """
        task = self.create_task(work)
        latest = self._clock.now() + _LONGEST
        self.settle()
        while not task.done():
            wake = self.next_wake
            if wake is None or wake > latest:
                task.cancel()
                self.settle()
                raise JobFailedError(
                    "everything waits, and for nothing that virtual time could bring",
                    hint="under virtual time a job cannot wait for a network, a thread or a source without end",
                )
            self._step_to(wake)
        return task.result()

    def close_quietly(self) -> None:
        """Cancels the tasks that still run, lets them clean up, and closes."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.settle()
        self.close()

    def _step_to(self, wake: int) -> None:
        self._clock.advance_to(wake)
        while self._timers and self._timers[0] <= wake:
            heapq.heappop(self._timers)
        self.settle()
