"""The trace of a simulated run as one number: equal for runs of one seed, or the run cannot be repeated."""

from __future__ import annotations

from zlib import crc32

__all__ = ["Trace"]

_MASK = (1 << 64) - 1
_FACTOR = 0x9E3779B97F4A7C15


class Trace:
    """A digest of every choice of the loop and of every effect outside of it; keeps the last events in words.

    >>> first, second = Trace(), Trace()
    >>> first.event("disk: write a", 4); second.event("disk: write b", 4)
    >>> first.digest == second.digest, first.last
    (False, ['disk: write a'])
    """

    def __init__(self, keep: int = 40) -> None:
        self.last: list[str] = []
        self._keep = keep
        self._number = 0

    def choice(self, value: int) -> None:
        """Takes in one choice among many: cheap, for it is made at every step."""
        self._number = ((self._number ^ value) * _FACTOR + 1) & _MASK

    def event(self, text: str, value: int = 0) -> None:
        """Takes in an event, with a number that says more about it."""
        self.choice(crc32(text.encode()) ^ (value << 32))
        self.last.append(text)
        if len(self.last) > 2 * self._keep:
            del self.last[: self._keep]

    @property
    def digest(self) -> str:
        """The digest, 16 hexadecimal characters."""
        return f"{self._number:016x}"
