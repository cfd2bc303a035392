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
        self._began: float | None = None
        """The time of the first turn in this pass; None if there was none."""
        self._taken = 0
        """The number of turns in this pass."""
        self._each = 0.0
        """The expected seconds of a turn."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Returns at once if this pass has not lasted long; otherwise in a later one, after those that wait already."""
        if self._began is None:
            self._begin(1)
        elif self._waiting or self._clock.monotonic() - self._began >= _PASS:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._taken += 1

    def _begin(self, taken: int) -> None:
        self._began, self._taken = self._clock.monotonic(), taken
        # Behind the tasks that have been woken by now.
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Gives turns to those that wait: as many as will probably take as long as a pass may."""
        assert self._began is not None
        each = (self._clock.monotonic() - self._began) / self._taken
        # Quick to believe that they are long, slow to believe that they are short.
        self._each = max(each, 0.9 * self._each + 0.1 * each)
        most = max(1, int(_PASS / max(self._each, _SHORTEST)))
        given = 0
        while self._waiting and given < most:
            turn = self._waiting.popleft()
            if not turn.done():  # its task may have been cancelled
                turn.set_result(None)
                given += 1
        if given:
            self._begin(given)
        else:
            self._began = None
