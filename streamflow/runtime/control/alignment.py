"""Barrier alignment: decides which channels are not read until an epoch's barrier has come on all. Does no I/O.

Chandy and Lamport's markers as Flink uses them: after a barrier nothing more is read from its channel until the
barrier has come on every channel that has not ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.errors import StreamflowError

__all__ = ["Aligned", "Alignment", "Block"]


@dataclass(frozen=True, slots=True)
class Block:
    """An instruction to read nothing from this channel for now."""

    channel: int


@dataclass(frozen=True, slots=True)
class Aligned:
    """An instruction to end the epoch and to read every channel again: the barrier of `epoch` has come everywhere."""

    epoch: int


class Alignment:
    """The state machine of one subtask.

    >>> alignment = Alignment(2)
    >>> alignment.barrier(0, epoch=1), alignment.barrier(1, epoch=1)
    (Block(channel=0), Aligned(epoch=1))
    """

    def __init__(self, channels: int) -> None:
        self._open = set(range(channels))
        self._arrived: set[int] = set()
        self._epoch: int | None = None

    @property
    def missing(self) -> list[int]:
        """The channels that the barrier which has come elsewhere has not come on; none if there is no such barrier."""
        return [] if self._epoch is None else sorted(self._open - self._arrived)

    def barrier(self, channel: int, epoch: int) -> Block | Aligned:
        """Takes a barrier that has come on a channel."""
        if self._epoch not in (None, epoch):
            raise StreamflowError(f"barrier {epoch} came while {self._epoch} was being aligned")
        self._epoch = epoch
        self._arrived.add(channel)
        return self._decide() or Block(channel)

    def end(self, channel: int) -> Aligned | None:
        """Takes the end of a channel; its barrier is not waited for any more."""
        self._open.discard(channel)
        return self._decide()

    def _decide(self) -> Aligned | None:
        if self._epoch is None or not self._open <= self._arrived:
            return None
        epoch, self._epoch = self._epoch, None
        self._arrived.clear()
        return Aligned(epoch)
