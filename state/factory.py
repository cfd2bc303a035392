"""Opens a backend by its kind, so that nothing else imports a concrete one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from streamflow.errors import ConfigError
from streamflow.state.backend import KeyedStateBackend
from streamflow.state.memory import MemoryBackend

__all__ = ["BackendKind", "open_backend"]

BackendKind = Literal["memory", "rocksdb"]


def open_backend(
    kind: BackendKind | str, directory: Path | None = None, *, must_exist: bool = False
) -> KeyedStateBackend:
    """A backend, opened or made.

    RocksDB without a directory uses a private temporary one, removed at close. `must_exist` refuses to make
    an empty database where state was expected. Raises ConfigError for an unknown kind, StateError where it
    cannot be opened.

    >>> type(open_backend("memory")).__name__
    'MemoryBackend'
    """
    if kind == "memory":
        return MemoryBackend()
    if kind == "rocksdb":
        from streamflow.state.rocksdb.backend import RocksDBBackend

        return RocksDBBackend(directory, must_exist=must_exist)
    raise ConfigError(f"no state backend {kind!r}", hint="use 'memory' or 'rocksdb'")
