"""Split alignment: no split runs further ahead in event time than the allowed drift, of the slowest split of its source
and of the sources that it meets.

Otherwise a backfill's open windows and joins would hold everything that runs ahead, until the slowest split has caught
up. Splits that are idle, and those that have not had an event yet, hold nobody back. (FLIP-182 and FLIP-217 do the same
in Flink.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamflow.runtime.control.messages import FromWorker, Slowest, SlowestOfAll

__all__ = ["DriftLimit", "SplitAlignment"]


class SplitAlignment:
    """The coordinator's half, one for the sources that meet.

    >>> alignment = SplitAlignment(["read-1", "read-2"])
    >>> alignment.report(Slowest("read-1", 0, 100))[1]
    SlowestOfAll(source='read-2', watermark=100)
    >>> alignment.report(Slowest("read-2", 1, 95))[0]
    SlowestOfAll(source='read-1', watermark=95)
    >>> alignment.report(Slowest("read-1", 0, 101))
    []
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self._slowest: dict[tuple[str, int], int] = {}

    def report(self, slowest: Slowest) -> list[SlowestOfAll]:
        """Takes in a subtask's report; gives the smallest watermark of all for every source, if that has changed."""
        before = min(self._slowest.values(), default=None)
        subtask = slowest.source, slowest.subtask
        if slowest.watermark is None:
            self._slowest.pop(subtask, None)
        else:
            self._slowest[subtask] = slowest.watermark
        now = min(self._slowest.values(), default=None)
        return [] if now == before else [SlowestOfAll(source, now) for source in self._sources]


class DriftLimit:
    """The half of one subtask of a source; `drift` in microseconds, None where others wait for these splits, and these
    for nobody. `notify` is called when a split that had to wait may go on.

    >>> limit = DriftLimit("read-1", 0, drift=10, send=print)
    >>> limit.report(100)
    Slowest(source='read-1', subtask=0, watermark=100)
    >>> limit.hear(SlowestOfAll("read-1", 95))
    >>> limit.allows(105), limit.allows(106)
    (True, False)
    """

    def __init__(
        self, source: str, subtask: int, *, drift: int | None, send: Callable[[FromWorker], None]
    ) -> None:
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
        return self._slowest is None or self._drift is None or watermark <= self._slowest + self._drift


def _nothing() -> None:
    """Does nothing: no subtask waits yet."""
