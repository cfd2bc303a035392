"""Turns at the event loop, which the subtasks of a worker share with everything else that runs on it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from streamflow.time.clock import Clock

__all__ = ["Turns"]

_PASS: Final = 0.01
"""Seconds that subtasks may work in one pass of the loop."""
_SHORTEST: Final = 1e-4
"""The number of seconds that a turn counts for at least."""


class Turns:
    """Lets subtasks work for about ten milliseconds in each pass of the event loop, one after the other.

    Between two passes requests are answered, heartbeats sent and signals heard: without turns each of hundreds of
    subtasks would work for some milliseconds first. Used on the event loop only.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open = False
        """Whether there was a turn in this pass, so that `_go_on` comes in the next one."""
        self._began = 0.0
        """The time at which this pass's turns began."""
        self._taken = 0
        """The number of turns in this pass."""
        self._each = 0.0
        """The expected seconds of a turn."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Returns at once if this pass has not lasted long; otherwise in a later one, after those that wait already."""
        if not self._open:
            self._open, self._taken = True, 1
            self._begin()
            asyncio.get_running_loop().call_soon(self._go_on)
        elif self._waiting or self._clock.monotonic() - self._began >= _PASS:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._taken += 1

    def _begin(self) -> None:
        self._began = self._clock.monotonic()

    def _go_on(self) -> None:
        """Gives turns in the next pass to those that wait: as many as will probably take as long as a pass may."""
        each = (self._clock.monotonic() - self._began) / self._taken
        # Quick to believe that they are long, slow to believe that they are short.
        self._each = max(each, 0.9 * self._each + 0.1 * each)
        most = max(1, int(_PASS / max(self._each, _SHORTEST)))
        while self._waiting and self._waiting[0].done():  # its task has been cancelled
            self._waiting.popleft()
        if not self._waiting:
            self._open = False
            return
        loop = asyncio.get_running_loop()
        # Between two passes the loop may wait long for threads that use Python, which is nobody's turn.
        loop.call_soon(self._begin)
        self._taken = 0
        while self._waiting and self._taken < most:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._taken += 1
        loop.call_soon(self._go_on)
