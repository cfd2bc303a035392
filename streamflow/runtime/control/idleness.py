"""Idleness: finds the splits of a source subtask that have been quiet for so long that they hold nothing back.
Decides only.

Each split has its own quiet time, by the clock, whatever other splits send. Time for which the subtask was busy or
held back downstream counts little, and a stretch as long as the whole quiet time does not count: the subtask could
not have heard the split. A split beside one that always has data still turns idle, since the subtask looks at it
between two pieces.
"""

from __future__ import annotations

from streamflow.time.smallest import Smallest

__all__ = ["Idleness"]

_AWAY = 10
"""A stretch away from the splits counts for no more than this fraction of the quiet time."""
_NOTHING = 1e-9


class Idleness:
    """The quiet times of one subtask's splits; `after` is the quiet time in microseconds that makes a split idle;
    None: none ever is.

    >>> idleness = Idleness(5_000_000)
    >>> idleness.heard("a"); idleness.heard("b")
    >>> idleness.listened(3.0); idleness.heard("a"); idleness.listened(2.0); idleness.quiet()
    ['b']
    """

    def __init__(self, after: int | None) -> None:
        self._after = None if after is None else after / 1e6
        self._time = 0.0
        self._since: Smallest[str, float] = Smallest()
        """The time at which each split that is not idle was heard last."""

    def remove(self, split: str) -> None:
        """Removes a split that has ended."""
        self._since.remove(split)

    def heard(self, split: str) -> None:
        """Notes that the split has been opened, has sent something, or has something to send."""
        self._since.put(split, self._time)

    def listened(self, seconds: float) -> None:
        """Adds seconds in which the subtask only waited for splits."""
        self._time += seconds

    def away(self, seconds: float) -> None:
        """Adds seconds in which the subtask worked, or was held back."""
        if self._after is not None and seconds < self._after:
            self._time += min(seconds, self._after / _AWAY)

    @property
    def seconds(self) -> float | None:
        """The seconds until the next split may become idle; None if none can."""
        first = self._since.first
        if self._after is None or first is None:
            return None
        left = first[1] + self._after - self._time
        # The remainder of a sum of floats is no time.
        return left if left > _NOTHING else 0.0

    def quiet(self) -> list[str]:
        """The splits that have become idle since the last call, the longest quiet one first."""
        newly: list[str] = []
        while self.seconds == 0.0 and (first := self._since.first) is not None:
            newly.append(first[0])
            self._since.remove(first[0])
        return newly
