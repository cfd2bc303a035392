"""The watermarks of a task's channels, merged: over all of them, over those of each input, over those records carry.

A watermark of all inputs is the smallest of theirs. An input without event time never holds it back, and one that has
no end either does not hold the last one, +∞, back. Its only watermark is that last one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from streamflow.core.elements import AnyBatch
from streamflow.time.timestamps import MAX_TIME, MIN_TIME
from streamflow.time.watermarks import WatermarkMerger

__all__ = ["InputWatermarks"]


class InputWatermarks:
    """The watermarks of channels, each of which belongs to an input port.

    >>> told = []
    >>> inputs = InputWatermarks([0, 0, 1], hear=lambda port, time: told.append((port, time)))
    >>> [inputs.advance(channel, time) for channel, time in [(0, 5), (1, 7), (2, 9), (0, 8)]], told
    ([None, None, 5, 7], [(0, 5), (1, 9), (0, 7)])
    """

    def __init__(
        self,
        ports: Sequence[int],
        *,
        untimed: Collection[int] = (),
        endless: Collection[int] = (),
        marks: bool = False,
        hear: Callable[[int, int], None] | None = None,
        restored: int = MIN_TIME,
    ) -> None:
        """`ports` are the input ports of the channels; of these `untimed` have no event time, beside others that have
        it, and `endless` no end. `marks`: records carry watermarks. `hear` is told the watermark of an input that has
        moved, before that of all. `restored` is the watermark of all in the restored checkpoint."""
        self._ports = ports
        self._untimed = {channel for channel, port in enumerate(ports) if port in untimed}
        self._endless = {channel for channel in self._untimed if ports[channel] in endless}
        self._hear = hear
        self._all = WatermarkMerger(set(range(len(ports))) - self._endless, restored=restored)
        self._all.idle(*(self._untimed - self._endless))
        timed = [channel for channel in range(len(ports)) if channel not in self._untimed]
        self._carried = WatermarkMerger(timed, restored=restored) if marks else None
        """The watermarks with those that records carry."""
        self._of_port = {
            port: WatermarkMerger(
                [channel for channel, each in enumerate(ports) if each == port], restored=restored
            )
            for port in (set(ports) if hear is not None else ())
        }

    def advance(self, channel: int, time: int) -> int | None:
        """Takes the watermark of a channel; gives that of all if it moves, as do `idle` and `active`."""
        if channel in self._untimed:
            if time < MAX_TIME:
                return None
            self._tell(channel, lambda merger: merger.advance(channel, time))
            return None if channel in self._endless else self._all.end(channel)
        return self._each(channel, lambda merger: merger.advance(channel, time))

    def idle(self, channel: int) -> int | None:
        """Takes the idleness of a channel."""
        if channel in self._untimed:
            return None
        return self._each(channel, lambda merger: merger.idle(channel))

    def active(self, channel: int) -> int | None:
        """Takes the end of a channel's idleness."""
        if channel in self._untimed:
            return None
        return self._each(channel, lambda merger: merger.active(channel))

    def timed(self, channel: int) -> bool:
        """Whether records of a channel have event times."""
        return channel not in self._untimed

    @property
    def all_idle(self) -> bool:
        """Whether no channel is active (ended ones aside)."""
        return self._all.all_idle

    def placed(self, channel: int, batch: AnyBatch) -> AnyBatch:
        """The batch with each record's own watermark replaced by the watermark of all inputs, if it carries any."""
        if self._carried is None or not batch.marked or not len(batch) or channel in self._untimed:
            return batch
        placed = batch.within(self._carried.current, self._carried.beside(channel))
        self._carried.advance(channel, batch.last_mark)
        return placed

    def _each(self, channel: int, take: Callable[[WatermarkMerger], int | None]) -> int | None:
        if self._carried is not None:
            take(self._carried)
        self._tell(channel, take)
        return take(self._all)

    def _tell(self, channel: int, take: Callable[[WatermarkMerger], int | None]) -> None:
        """Moves the watermark of a channel's input."""
        port = self._ports[channel]
        if self._hear is not None and (moved := take(self._of_port[port])) is not None:
            self._hear(port, moved)
