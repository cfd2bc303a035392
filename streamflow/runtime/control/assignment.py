"""Split assignment: decides which subtask of a source reads which split, and when. The enumerator does the I/O.

Splits are handed out in the order in which they were found. One that follows another in time is handed to a subtask
only when that subtask has nothing else left to fetch; ones that lie side by side may be open together. After a
restore the splits that were open or waiting come first, each with the position and the watermark it had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from streamflow.operators.contract.source import Discovery, Position, Split
from streamflow.runtime.checkpoints.stored_content import SplitContent
from streamflow.time.timestamps import MIN_TIME

__all__ = ["SplitAssigner", "SplitState"]


@dataclass(frozen=True, slots=True)
class SplitState:
    """A split and its reading position: `position` is None at its beginning, `watermark` in microseconds. `order` is
    its place among the splits of its source. `idle`: it was quiet."""

    split: Split
    order: int = 0
    position: Position | None = None
    watermark: int = MIN_TIME
    idle: bool = False

    def as_values(self) -> dict[str, Any]:
        """The state as plain values, for a checkpoint."""
        return {
            "id": self.split.id,
            "payload": dict(self.split.payload),
            "holds_watermark": self.split.holds_watermark,
            "unbounded": self.split.unbounded,
            "order": self.order,
            "position": None if self.position is None else dict(self.position),
            "watermark": self.watermark,
            "idle": self.idle,
        }

    @classmethod
    def of(cls, values: SplitContent) -> SplitState:
        """The state of `as_values`' output."""
        split = Split(
            values["id"], values["payload"], values["holds_watermark"], values.get("unbounded", False)
        )
        return cls(
            split,
            values["order"],
            values["position"],
            values["watermark"],
            values.get("idle", False),
        )


class SplitAssigner:
    """One per source.

    `restored` are splits that an earlier run had found and not read to their end; `final` says that it had found all.
    `side_by_side`: how many splits with an end a subtask has open together. `unread` is told what is not read to its
    end whenever that changes.
    """

    def __init__(
        self,
        parallelism: int,
        *,
        side_by_side: int,
        restored: Sequence[SplitState] | None = None,
        final: bool = False,
        unread: Callable[[Collection[str]], None] | None = None,
    ) -> None:
        self._parallelism = parallelism
        self._side_by_side = side_by_side
        self._pending: deque[SplitState] = deque(sorted(restored or (), key=lambda state: state.order))
        self._found = max((state.order + 1 for state in self._pending), default=0)
        self._notify: Callable[[], None] = _nothing
        self._holding = sum(state.split.holds_watermark for state in self._pending)
        """The number of pending splits that hold the watermark."""
        self._open: set[str] = set()
        self._left = dict.fromkeys(state.split.id for state in self._pending)
        """The splits not read to their end, open or pending."""
        self._started = 0
        self._unread = unread
        self.discovered = restored is not None
        self.final = final
        self._tell()

    def listen(self, notify: Callable[[], None]) -> None:
        """Calls `notify` whenever there is news."""
        self._notify = notify

    def found(self, discovery: Discovery) -> None:
        """Takes the enumerator's findings."""
        for split in discovery.splits:
            self._pending.append(SplitState(split, self._found))
            self._found += 1
            self._holding += split.holds_watermark
            self._left[split.id] = None
        self.discovered = True
        self.final = discovery.final
        self._tell()
        self._notify()

    def started(self) -> None:
        """Notes that one more subtask has its first split, or has none."""
        self._started += 1
        if self.all_started:
            self._notify()

    @property
    def all_started(self) -> bool:
        """Whether every subtask is ready: where watermarks meet, earlier output would depend on which subtask was
        faster."""
        return self._started >= self._parallelism

    def take(self, fetching: int) -> SplitState | None:
        """A split for a subtask that is still fetching from `fetching` others; None if there is none for it now."""
        if not self._pending:
            return None
        share = ceil((len(self._pending) + len(self._open)) / self._parallelism)
        split = self._pending[0].split
        holds = split.holds_watermark
        most = share if split.unbounded else min(self._side_by_side, max(1, share)) if holds else 1
        if fetching >= most:
            return None
        state = self._pending.popleft()
        self._holding -= holds
        self._open.add(split.id)
        if not holds or not self.holds_watermark:
            # Others may be waiting only for this one.
            self._notify()
        return state

    def ended(self, split: str) -> None:
        """Notes that a split has been read to its end."""
        self._open.discard(split)
        self._left.pop(split, None)
        self._tell()

    def _tell(self) -> None:
        if self._unread is not None:
            self._unread(self._left.keys())

    @property
    def pending(self) -> tuple[SplitState, ...]:
        """The splits that have been found and not handed out."""
        return tuple(self._pending)

    @property
    def holds_watermark(self) -> bool:
        """Whether a split that is not read yet could still send events of any time."""
        return not self.discovered or self._holding > 0

    @property
    def exhausted(self) -> bool:
        """Whether there are no more splits, now and later."""
        return self.final and not self._pending


def _nothing() -> None:
    """Does nothing: no listener yet."""
