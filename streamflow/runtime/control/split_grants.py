"""Split grants: the two halves of handing splits out, at the coordinator and at a source's subtask. Decide, do no I/O.

A checkpoint is whole, though a grant may be under way when an epoch begins: messages between the two halves arrive
in order; a split that is granted before the barrier is injected is in the subtask's snapshot, opened or not; between
the injection and the subtask's barrier the coordinator grants it nothing, and everything that is not granted then is
in the coordinator's own part.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from streamflow.runtime.control.assignment import SplitAssigner, SplitState
from streamflow.runtime.control.messages import (
    FromWorker,
    SplitEnded,
    SplitGranted,
    SplitNews,
    SplitWanted,
    Started,
)

__all__ = ["SplitGrants", "SplitShare"]


class SplitGrants:
    """The coordinator's half, one per source.

    >>> from streamflow.operators.contract.source import Discovery, Split
    >>> assigner = SplitAssigner(1, side_by_side=1)
    >>> grants = SplitGrants("read-1", assigner)
    >>> assigner.found(Discovery([Split("a"), Split("b")], final=True))
    >>> grants.inject([0])
    >>> grants.wanted(SplitWanted("read-1", 0, 0))
    >>> grants.passed(0).state.split.id
    'a'
    """

    def __init__(self, source: str, assigner: SplitAssigner) -> None:
        self._source = source
        self._assigner = assigner
        self._barred: set[int] = set()
        """Subtasks whose barrier is under way."""
        self._wishes: dict[int, SplitWanted] = {}
        """Wishes of those subtasks."""
        self._changed = False
        assigner.listen(self._change)

    @property
    def news(self) -> SplitNews:
        """The present state of affairs, for every subtask."""
        return SplitNews(
            self._source,
            discovered=self._assigner.discovered,
            holds_watermark=self._assigner.holds_watermark,
            exhausted=self._assigner.exhausted,
            all_started=self._assigner.all_started,
        )

    def untold(self) -> SplitNews | None:
        """The news, if there is any since the last call. To be sent after the grant that made it: otherwise other
        subtasks could take a split to be read already while the grant is still on its way."""
        changed, self._changed = self._changed, False
        return self.news if changed else None

    def inject(self, subtasks: Iterable[int]) -> None:
        """Begins an epoch, whose barrier is to come through these subtasks."""
        self._barred.update(subtasks)

    def wanted(self, wish: SplitWanted) -> SplitGranted | None:
        """The answer to a subtask; None: the answer follows when the subtask has passed its barrier."""
        if wish.subtask in self._barred:
            self._wishes[wish.subtask] = wish
            return None
        state = self._assigner.take(wish.fetching)
        return SplitGranted(self._source, wish.subtask, state, self.news)

    def passed(self, subtask: int) -> SplitGranted | None:
        """Notes that a subtask has passed the barrier, or has ended; gives the answer to its wish, if it has one."""
        self._barred.discard(subtask)
        wish = self._wishes.pop(subtask, None)
        return None if wish is None else self.wanted(wish)

    def _change(self) -> None:
        self._changed = True


class SplitShare:
    """The half of one subtask of a source. `notify` is called when there is news that the subtask may wait for.

    Inside one process the answer to a wish comes while the wish is being sent, so that `take` returns the split at
    once; otherwise `take` returns the split when it is called again.
    """

    def __init__(self, source: str, subtask: int, send: Callable[[FromWorker], None]) -> None:
        self._source = source
        self._subtask = subtask
        self._send = send
        self._granted: deque[SplitState] = deque()
        self._news = SplitNews(
            source, discovered=False, holds_watermark=True, exhausted=False, all_started=False
        )
        self._wish: int | None = None
        """The number of splits being fetched from in the wish that has not been answered."""
        self._refused = sys.maxsize
        """The number of splits being fetched from at which there was none to have."""
        self._taking = False
        self.notify: Callable[[], None] = _nothing

    def take(self, fetching: int) -> SplitState | None:
        """A split to open for a subtask that fetches from so many others; None if there is none now."""
        if not self._granted and self._wish is None and fetching < self._refused:
            self._wish, self._taking = fetching, True
            self._send(SplitWanted(self._source, self._subtask, fetching))
            self._taking = False
        return self._granted.popleft() if self._granted else None

    def hear(self, message: SplitGranted | SplitNews) -> None:
        """Takes in what the coordinator sends."""
        if isinstance(message, SplitNews):
            self._news, self._refused = message, sys.maxsize
            self.notify()
            return
        self._news = message.news
        if message.state is not None:
            self._granted.append(message.state)
        elif self._wish is not None:
            self._refused = self._wish
        self._wish = None
        if not self._taking:
            self.notify()

    def start(self) -> None:
        """Says that the subtask has its first split, or has found that there is none for it."""
        self._send(Started(self._source))

    def end(self, split: str) -> None:
        """Says that a split has been read to its end."""
        self._send(SplitEnded(self._source, split))

    @property
    def unopened(self) -> Sequence[SplitState]:
        """The splits that have been granted and not taken yet: they belong into the subtask's snapshot."""
        return tuple(self._granted)

    @property
    def discovered(self) -> bool:
        """Whether splits have been looked for."""
        return self._news.discovered

    @property
    def holds_watermark(self) -> bool:
        """Whether a split that is not read yet, or that is on its way here, could send events of any time."""
        return self._news.holds_watermark or self._on_its_way

    @property
    def exhausted(self) -> bool:
        """Whether there are no more splits for this subtask, now and later."""
        return self._news.exhausted and not self._on_its_way

    @property
    def all_started(self) -> bool:
        """Whether every subtask has said that it started."""
        return self._news.all_started

    @property
    def _on_its_way(self) -> bool:
        return bool(self._granted) or self._wish is not None


def _nothing() -> None:
    """No subtask waits yet."""
