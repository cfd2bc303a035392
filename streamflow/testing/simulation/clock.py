"""Processing time of a simulated process: the loop's virtual time, on a wall clock that may be set wrong."""

from __future__ import annotations

import asyncio

from streamflow.testing.simulation.loop import SimLoop

__all__ = ["SimClock"]


class SimClock:
    """The clock port (`streamflow.time.clock.Clock`) on a simulated loop; `start` is its wall clock's first moment.

    >>> loop = SimLoop(1)
    >>> clock = SimClock(loop, start=1_000_000)
    >>> loop.run(clock.sleep(90)); clock.now(), clock.monotonic()
    (91000000, 90.0)
    """

    def __init__(self, loop: SimLoop, start: int) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> int:
        """Microseconds since 1970 in UTC."""
        return self._start + self._loop.now

    def monotonic(self) -> float:
        """Seconds since the process began."""
        return self._loop.now / 1e6

    async def sleep(self, seconds: float) -> None:
        """Waits for `seconds` of virtual time; zero only lets other tasks run."""
        # A wait too short for microseconds still takes one: otherwise a loop that waits for a remainder would wait
        # for ever.
        await asyncio.sleep(max(seconds, 1e-6) if seconds > 0 else 0)
