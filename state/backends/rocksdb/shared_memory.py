"""The memory that the databases of one worker share, and the number of files that each holds open."""

from __future__ import annotations

from typing import Final

__all__ = ["DEFAULT_BYTES", "SharedMemory"]

DEFAULT_BYTES: Final = 64 << 20
"""Bytes of a database that shares with none."""

_LEAST: Final = 8 << 20
"""The smallest share in bytes: with less, each write would end a write buffer."""
_LARGEST_BUFFER: Final = 16 << 20
_SMALLEST_BUFFER: Final = 256 << 10
_TABLES: Final = 240
"""The number of table files that all databases may hold open together."""
_FEWEST_TABLES: Final = 20
"""RocksDB takes no smaller number, and keeps half of it for itself."""


class SharedMemory:
    """A block cache of `nbytes` for up to `databases` of them, in which their write buffers count: the one that reads
    and writes most has most of it.

    RocksDB writes the buffers of a database to a file when those of all together take half of the cache.
    """

    def __init__(self, nbytes: int = DEFAULT_BYTES, databases: int = 1) -> None:
        from rocksdict import Cache, WriteBufferManager

        nbytes = max(_LEAST, nbytes)
        buffers = nbytes // 2
        self.cache = Cache(nbytes)
        self.buffers = WriteBufferManager.new_write_buffer_manager_with_cache(buffers, False, self.cache)
        self.buffer = max(_SMALLEST_BUFFER, min(_LARGEST_BUFFER, buffers // 2 // databases))
        """Bytes of one write buffer."""
        self.tables = max(_FEWEST_TABLES, _TABLES // databases)
        """The number of table files that one database holds open."""
