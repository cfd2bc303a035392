"""The checkpoints of a job that stay, and the removal of content that none of them names.

A writer waits for a removal under way before it stores its first file, and none begins while there is a writer: its
content may have the same digest as content that is about to go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from streamflow.errors import StateError
from streamflow.state.checkpoints.blobs import Blobs
from streamflow.state.checkpoints.layout import JobLayout

__all__ = ["Collection", "begins_generation", "retained"]


class Collection:
    """The stored content of one job. Without a lock only content older than `grace` microseconds is removed: another
    process may have begun there. `reach` is called at each removal."""

    def __init__(self, blobs: Blobs, layout: JobLayout, grace: int, reach: Callable[[str], None]) -> None:
        self._blobs = blobs
        self._layout = layout
        self._grace = grace
        self._reach = reach
        self._guard = threading.Lock()
        self._removing = threading.Lock()
        self._writers = 0
        self._due = False

    def begin(self) -> None:
        """Notes that a writer begins. Does not block."""
        with self._guard:
            self._writers += 1

    def end(self) -> bool:
        """Notes that a writer has ended; returns whether a removal has waited for it."""
        with self._guard:
            self._writers -= 1
            return self._due and self._writers == 0

    def wait(self) -> None:
        """Waits for a removal under way; a writer calls it before it stores anything."""
        with self._removing:
            return

    def remove(self, named: Callable[[], set[str]], now: int) -> set[str]:
        """Removes content that is not in `named()`; if a checkpoint is being written, after that. Returns the
        removed keys.

        Removes nothing if `named` raises StateError: an unreadable manifest may need any of it.
        """
        removed: set[str] = set()
        before = now - self._grace
        with self._removing:
            if self._waits():
                return removed
            try:
                kept = named()
            except StateError:
                return removed
            for entry in self._blobs.entries(self._layout.blobs):
                if entry.key in kept or (entry.modified >= before and not self._blobs.exclusive):
                    continue
                if self._waits():
                    return removed
                self._blobs.remove(entry.key)
                removed.add(entry.key)
                self._reach("retain.blob_removed")
            self.sweep(self._layout.blobs, now)
        return removed

    def sweep(self, prefix: str, now: int) -> None:
        """Removes leftovers of interrupted writes below `prefix`."""
        self._blobs.sweep(prefix, now - self._grace)

    def _waits(self) -> bool:
        with self._guard:
            self._due = self._writers > 0
            return self._due


def retained(generations: Mapping[int, int], keep: int) -> set[int]:
    """The numbers to keep, of checkpoints given by number and generation: the newest `keep`, and the newest one of
    the generation before theirs. That one shares no bytes on the disk with them, so one rotten file does not damage
    all.

    >>> sorted(retained({7: 1, 8: 1, 9: 1, 10: 10, 11: 10, 12: 10, 13: 10}, keep=3))
    [9, 11, 12, 13]
    """
    newest_first = sorted(generations, reverse=True)
    kept = set(newest_first[: max(keep, 1)])
    if newest_first:
        current = generations[newest_first[0]]
        kept.update([number for number in newest_first if generations[number] < current][:1])
    return kept


def begins_generation(number: int, generation: int | None, every: int) -> bool:
    """Whether this checkpoint begins a new generation, after those of `generation`: every `every`-th does.

    >>> begins_generation(9, 8, every=10), begins_generation(10, 8, every=10), begins_generation(11, 10, every=10)
    (False, True, False)
    """
    return generation is None or number // every > generation // every
