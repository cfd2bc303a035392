"""Split alignment: no split of a source runs further ahead of its slowest in event time than the allowed drift.

Otherwise a backfill's open windows would hold everything that runs ahead, until the slowest split has caught up. Splits
that are idle, and those that have not had an event yet, hold nobody back. (FLIP-182 and FLIP-217 do the same in Flink.)
"""

from __future__ import annotations

from collections.abc import Callable

from streamflow.runtime.control.messages import FromWorker, Slowest, SlowestOfAll

__all__ = ["DriftLimit", "SplitAlignment"]


class SplitAlignment:
    """The coordinator's half, one per source.

    >>> alignment = SplitAlignment("read-1")
    >>> alignment.report(Slowest("read-1", 0, 100)), alignment.report(Slowest("read-1", 1, 95))
    (SlowestOfAll(source='read-1', watermark=100), SlowestOfAll(source='read-1', watermark=95))
    >>> alignment.report(Slowest("read-1", 0, 101))
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._slowest: dict[int, int] = {}

    def report(self, slowest: Slowest) -> SlowestOfAll | None:
        """Takes in a subtask's report; gives the smallest watermark of all for every subtask, if that has changed."""
        before = min(self._slowest.values(), default=None)
        if slowest.watermark is None:
            self._slowest.pop(slowest.subtask, None)
        else:
            self._slowest[slowest.subtask] = slowest.watermark
        now = min(self._slowest.values(), default=None)
        return None if now == before else SlowestOfAll(self._source, now)


class DriftLimit:
    """The half of one subtask of a source; `drift` in microseconds. `notify` is called when a split that had to wait
    may go on.

    >>> limit = DriftLimit("read-1", 0, drift=10, send=print)
    >>> limit.report(100)
    Slowest(source='read-1', subtask=0, watermark=100)
    >>> limit.hear(SlowestOfAll("read-1", 95))
    >>> limit.allows(105), limit.allows(106)
    (True, False)
    """

    def __init__(self, source: str, subtask: int, *, drift: int, send: Callable[[FromWorker], None]) -> None:
        self._source = source
        self._subtask = subtask
        self._drift = drift
        self._send = send
        self._slowest: int | None = None
        self._reported: int | None = None
        self.notify: Callable[[], None] = _nothing

    def report(self, watermark: int | None) -> None:
        """Reports the smallest watermark among the subtask's active splits, if it has changed; None: there is none."""
        if watermark != self._reported:
            self._reported = watermark
            self._send(Slowest(self._source, self._subtask, watermark))

    def hear(self, message: SlowestOfAll) -> None:
        """Takes in what the coordinator sends."""
        self._slowest = message.watermark
        self.notify()

    def allows(self, watermark: int) -> bool:
        """Whether a split with this watermark may be read on."""
        return self._slowest is None or watermark <= self._slowest + self._drift


def _nothing() -> None:
    """Does nothing: no subtask waits yet."""
