"""Crash points of a simulated process: a named point of the product, a disk call, any step of its loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from streamflow.testing.simulation.disk import Loss
from streamflow.testing.simulation.trace import Trace

__all__ = ["ANY_CALL", "ANY_STEP", "WRITING", "CrashAt", "CrashPoints"]

ANY_STEP: Final = "any step"
"""The name of the crash point that lies between two callbacks of the event loop."""
WRITING: Final = "sink.writing"
"""The name of the point at which a simulated sink has been given rows."""
ANY_CALL: Final = "any disk call"
"""The name of the crash point that lies before a call of the disk."""


@dataclass(frozen=True, slots=True)
class CrashAt:
    """The process ends when it comes to `point` for the `time`-th time (from 1), by `loss`.

    >>> print(CrashAt("manifest.named", 2, "power"))
    a power failure at manifest.named (time 2)
    """

    point: str
    time: int
    loss: Loss

    def __str__(self) -> str:
        how = "a kill" if self.loss == "kill" else "a power failure"
        return f"{how} at {self.point} (time {self.time})"


class CrashPoints:
    """Counts how often one process comes to each point, and ends the process at the chosen one.

    >>> def end(): raise SystemExit
    >>> points = CrashPoints(CrashAt("commit.before", 2, "kill"), end)
    >>> points.reach("commit.before"); points.reached["commit.before"], points.crashed
    (1, False)
    """

    def __init__(
        self,
        crash: CrashAt | None,
        end: Callable[[], NoReturn],
        *,
        trace: Trace | None = None,
        on_point: Callable[[str, int], None] | None = None,
    ) -> None:
        """`on_point` is called with each point and the number of times that it has been reached."""
        self._on_point = on_point
        self.reached: Counter[str] = Counter()
        self.crashed = False
        self._crash = crash
        self._end = end
        self._trace = trace or Trace()

    def reach(self, point: str) -> None:
        """Counts a named point of the product."""
        self._trace.event(point)
        self._come(point)

    def call(self, what: str) -> None:
        """Counts a call of the disk, before it is made."""
        self._come(ANY_CALL)

    def _come(self, point: str) -> None:
        self.reached[point] += 1
        if self._on_point is not None:
            self._on_point(point, self.reached[point])
        crash = self._crash
        if crash is not None and crash.point == point and crash.time == self.reached[point]:
            self.crashed = True
            self._end()
