"""Idleness: which splits of a source subtask have been quiet for so long that they hold nothing back. Decides only.

Each split has its own quiet time, by the clock, whatever other splits send. Time for which the subtask was busy or held
back downstream counts little, and a stretch as long as the whole quiet time does not count: nobody would have heard the
split. A split beside one that always has data still turns idle, since the subtask looks at it between two pieces.
"""

from __future__ import annotations

__all__ = ["Idleness"]

_AWAY = 10
"""A stretch away from the splits counts for no more than this fraction of the quiet time."""
_NOTHING = 1e-9


class Idleness:
    """The quiet times of one subtask's splits; `after` is how many microseconds make a split idle, None: none ever is.

    >>> idleness = Idleness(5_000_000)
    >>> idleness.add("a"); idleness.add("b")
    >>> idleness.listened(3.0); idleness.heard("a"); idleness.listened(2.0); idleness.quiet()
    ['b']
    """

    def __init__(self, after: int | None) -> None:
        self._after = None if after is None else after / 1e6
        self._time = 0.0
        self._since: dict[str, float] = {}
        self._idle: set[str] = set()
        self._due: float | None = None

    def add(self, split: str) -> None:
        """A split has been opened."""
        self.heard(split)
        self._due = None

    def remove(self, split: str) -> None:
        """A split has ended."""
        self._since.pop(split, None)
        self._idle.discard(split)

    def heard(self, split: str) -> None:
        """The split has sent something, or has something to send."""
        self._since[split] = self._time
        if split in self._idle:
            self._idle.discard(split)
            self._due = None

    def listened(self, seconds: float) -> None:
        """So long nothing was done but wait for the splits."""
        self._time += seconds

    def away(self, seconds: float) -> None:
        """So long the subtask worked, or was held back."""
        if self._after is not None and seconds < self._after:
            self._time += min(seconds, self._after / _AWAY)

    @property
    def seconds(self) -> float | None:
        """How long until the next split may turn idle; None where none can."""
        if self._after is None:
            return None
        if self._due is None:
            waiting = (since for split, since in self._since.items() if split not in self._idle)
            first = min(waiting, default=None)
            self._due = None if first is None else first + self._after
        left = 0.0 if self._due is None else self._due - self._time
        # What is left of a sum of floats is no time.
        return None if self._due is None else left if left > _NOTHING else 0.0

    def quiet(self) -> list[str]:
        """The splits that have turned idle since the last call."""
        if self._after is None or self.seconds != 0.0:
            return []
        self._due = None
        newly = [
            split
            for split, since in self._since.items()
            if split not in self._idle and self._time - since >= self._after - _NOTHING
        ]
        self._idle.update(newly)
        return newly
