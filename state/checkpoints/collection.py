"""Removing content that no manifest names, and never what a checkpoint being written relies on.

A writer waits for a removal under way before it stores its first file, and none begins while there is a writer: its
content may have the same digest as content that is about to go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from streamflow.errors import StateError
from streamflow.state.checkpoints.blobs import Blobs
from streamflow.state.checkpoints.layout import JobLayout

__all__ = ["Collection"]


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
