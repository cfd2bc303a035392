"""Hands out one worker's memory for state.

A quarter is shared by all databases, as cache and write buffers: the one that needs more gets more. The rest is for
frames and decoded values: half of it in equal parts for the subtasks of operators that keep state, half for those that
need more.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from streamflow.state.memory_share import MemoryPool, MemoryShare

if TYPE_CHECKING:
    from streamflow.state.backends.rocksdb.shared_memory import SharedMemory

__all__ = ["StateMemory"]

_LARGEST_SMALL: Final = 256 << 10
_SMALL_SHARE: Final = 8
"""A dictionary takes several times as much as the bytes in it."""


class StateMemory:
    """`budget` bytes for the state of `keepers` subtasks of operators.

    >>> memory = StateMemory(256 << 20, keepers=3)
    >>> memory.share().sure >> 20, memory.small >> 10
    (32, 256)
    """

    def __init__(self, budget: int, keepers: int) -> None:
        self._budget = budget
        self._keepers = max(1, keepers)
        self._pool = MemoryPool(budget * 3 // 4, self._keepers)
        self.small = min(_LARGEST_SMALL, self._pool.equal // _SMALL_SHARE)
        """Bytes of keys and values up to which a subtask needs no database."""
        self._databases: SharedMemory | None = None
        self._guard = threading.Lock()

    def share(self) -> MemoryShare:
        """The memory of one more subtask for what its operator holds outside of a database."""
        return self._pool.share()

    @property
    def databases(self) -> SharedMemory:
        """The memory that all databases share."""
        from streamflow.state.backends.rocksdb.shared_memory import SharedMemory

        with self._guard:
            if self._databases is None:
                self._databases = SharedMemory(self._budget // 4, self._keepers)
            return self._databases
