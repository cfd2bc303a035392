"""Numbers for frames, which do not change: a frame that lives on from one checkpoint to the next is recognised."""

from __future__ import annotations

import threading
import weakref
from functools import partial

import polars as pl

__all__ = ["FrameIdentities"]


class FrameIdentities:
    """A number for each frame, for as long as the frame lives. Its calls may come from several threads.

    >>> frames, frame = FrameIdentities(), pl.DataFrame({"n": [1]})
    >>> frames.next, frames.of(frame), frames.of(frame), frames.next
    (0, 0, 0, 1)
    """

    def __init__(self) -> None:
        self.next = 0
        """The number of the next frame that has none."""
        self._known: dict[int, tuple[weakref.ref[pl.DataFrame], int]] = {}
        self._guard = threading.Lock()

    def of(self, frame: pl.DataFrame) -> int:
        """The number of a frame."""
        place = id(frame)
        with self._guard:
            known = self._known.get(place)
            # Where a frame has gone, another may be in its place.
            if known is None or known[0]() is not frame:
                known = (weakref.ref(frame, partial(self._forget, place)), self.next)
                self._known[place] = known
                self.next += 1
            return known[1]

    def _forget(self, place: int, gone: weakref.ref[pl.DataFrame]) -> None:
        # Without the lock: this may be called in the middle of a call that has it.
        known = self._known.get(place)
        if known is not None and known[0] is gone:
            self._known.pop(place, None)
