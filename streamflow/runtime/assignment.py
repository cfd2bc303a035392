"""Split assignment: which subtask of a source reads which split, and when. Decides; the enumerator does the I/O.

Splits are handed out in the order in which they were found. One that follows another in time is handed to a subtask
only when that subtask has nothing else left to fetch; ones that lie side by side may be open together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil

from streamflow.operators.source import Discovery, Split

__all__ = ["SplitAssigner"]


class SplitAssigner:
    """One per source, shared by its subtasks."""

    def __init__(self, parallelism: int, *, side_by_side: int) -> None:
        self._parallelism = parallelism
        self._side_by_side = side_by_side
        self._pending: deque[Split] = deque()
        self._listeners: list[Callable[[], None]] = []
        self._given = 0
        self.discovered = False
        self.final = False

    def listen(self, notify: Callable[[], None]) -> None:
        """Call `notify` whenever there is news."""
        self._listeners.append(notify)

    def found(self, discovery: Discovery) -> None:
        """The enumerator has looked."""
        self._pending.extend(discovery.splits)
        self.discovered = True
        self.final = discovery.final
        for notify in self._listeners:
            notify()

    def take(self, fetching: int) -> Split | None:
        """A split for a subtask that is still fetching from so many others; None if there is none for it now."""
        if not self._pending:
            return None
        share = ceil((len(self._pending) + self._given) / self._parallelism)
        most = min(self._side_by_side, max(1, share)) if self._pending[0].holds_watermark else 1
        if fetching >= most:
            return None
        self._given += 1
        split = self._pending.popleft()
        if not split.holds_watermark or not self.holds_watermark:
            # Others may be waiting only for this one.
            for notify in self._listeners:
                notify()
        return split

    @property
    def holds_watermark(self) -> bool:
        """Whether a split that nobody reads yet could still send events of any time."""
        return not self.discovered or any(split.holds_watermark for split in self._pending)

    @property
    def exhausted(self) -> bool:
        """Whether there are no more splits, now and later."""
        return self.final and not self._pending
