"""Hands out one worker's memory for state.

A quarter is shared by all databases, as cache and write buffers: the one that needs more gets more. The rest is for
frames and decoded values, in equal shares for the subtasks of operators that keep state.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from streamflow.state.backends.rocksdb.shared_memory import SharedMemory

__all__ = ["StateMemory"]

_LARGEST_SMALL: Final = 256 << 10
_SMALL_SHARE: Final = 8
"""A dictionary takes several times as much as the bytes in it."""


class StateMemory:
    """`budget` bytes for the state of `keepers` subtasks of operators.

    >>> memory = StateMemory(256 << 20, keepers=3)
    >>> memory.share >> 20, memory.small >> 10
    (64, 256)
    """

    def __init__(self, budget: int, keepers: int) -> None:
        self._budget = budget
        self._keepers = max(1, keepers)
        self.share = max(1, budget * 3 // 4 // self._keepers)
        """Bytes that a subtask of an operator holds before it spills."""
        self.small = min(_LARGEST_SMALL, self.share // _SMALL_SHARE)
        """Bytes of keys and values up to which a subtask needs no database."""
        self._databases: SharedMemory | None = None
        self._guard = threading.Lock()

    @property
    def databases(self) -> SharedMemory:
        """The memory that all databases share."""
        from streamflow.state.backends.rocksdb.shared_memory import SharedMemory

        with self._guard:
            if self._databases is None:
                self._databases = SharedMemory(self._budget // 4, self._keepers)
            return self._databases
