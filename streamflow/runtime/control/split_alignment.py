"""Split alignment: no split of a source runs further ahead of its slowest in event time than the allowed drift.

What runs ahead during a backfill would lie in open windows, waiting for the slowest split to catch up. Splits that are
idle, and those that have not had an event yet, hold nobody back. (FLIP-182 and FLIP-217 do the same in Flink.)
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SplitAlignment"]


class SplitAlignment:
    """One per source, shared by its subtasks.

    >>> alignment = SplitAlignment(drift=10)
    >>> alignment.report(0, 100)
    >>> alignment.report(1, 95)
    >>> alignment.allows(105), alignment.allows(106)
    (True, False)
    """

    def __init__(self, drift: int) -> None:
        self._drift = drift
        self._slowest: dict[int, int] = {}
        self._listeners: list[Callable[[], None]] = []

    def listen(self, notify: Callable[[], None]) -> None:
        """Call `notify` when a split that had to wait may go on."""
        self._listeners.append(notify)

    def report(self, subtask: int, watermark: int | None) -> None:
        """The smallest watermark among a subtask's active splits; None: it has none."""
        before = min(self._slowest.values(), default=None)
        if watermark is None:
            self._slowest.pop(subtask, None)
        else:
            self._slowest[subtask] = watermark
        if min(self._slowest.values(), default=None) != before:
            for notify in self._listeners:
                notify()

    def allows(self, watermark: int) -> bool:
        """Whether a split that has come so far may be read on."""
        return not self._slowest or watermark <= min(self._slowest.values()) + self._drift
