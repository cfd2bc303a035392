"""Opens a backend by its kind, so that nothing else imports a concrete one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from streamflow.errors import ConfigError
from streamflow.state.backends.growing import GrowingBackend
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.backends.protocol import KeyedStateBackend, StateAddress
from streamflow.state.backends.saved import SavedFiles, SavedKind
from streamflow.state.backends.saved_memory import saved_rows
from streamflow.state.backends.state_memory import StateMemory

__all__ = ["BackendKind", "growing_backend", "open_backend", "open_saved", "twin_of"]

BackendKind = Literal["memory", "rocksdb"]


def open_backend(
    kind: BackendKind | str,
    directory: Path | None = None,
    *,
    must_exist: bool = False,
    memory: StateMemory | None = None,
) -> KeyedStateBackend:
    """A backend, opened or made; a database shares `memory` with others.

    RocksDB without a directory uses a private temporary one, removed at close. `must_exist` refuses to make
    an empty database where state was expected. Raises ConfigError for an unknown kind, StateError where it
    cannot be opened.

    >>> type(open_backend("memory")).__name__
    'MemoryBackend'
    """
    if kind == "memory":
        return MemoryBackend()
    if kind == "rocksdb":
        from streamflow.state.backends.rocksdb.backend import RocksDBBackend

        shared = None if memory is None else memory.databases
        return RocksDBBackend(directory, must_exist=must_exist, memory=shared)
    raise ConfigError(f"no state backend {kind!r}", hint="use 'memory' or 'rocksdb'")


def growing_backend(
    kind: BackendKind | str, directory: Path | None, memory: StateMemory, begun: KeyedStateBackend | None
) -> KeyedStateBackend:
    """A backend that is in memory while it is small, and then in `directory`; or that of an operator that goes on where
    it was, which is in memory or in a database."""
    if not isinstance(begun, MemoryBackend | None):
        return begun
    small = None if kind == "memory" else memory.small
    opened = partial(open_backend, kind, directory, memory=memory)
    return GrowingBackend(opened, partial(twin_of, directory=directory), small=small, begun=begun)


def twin_of(
    source: KeyedStateBackend, states: Sequence[StateAddress], groups: range, *, directory: Path | None
) -> KeyedStateBackend | None:
    """A backend in `directory`, made by linking the files of `source`, that has of its keys those of these states and
    groups; None where `source` has no files. StateError where they cannot be linked or opened."""
    if directory is None or isinstance(source, MemoryBackend):
        return None
    from streamflow.state.backends.rocksdb.backend import RocksDBBackend

    return source.twin(directory, states, groups) if isinstance(source, RocksDBBackend) else None


def open_saved(
    kind: SavedKind | str,
    files: SavedFiles,
    directory: Path | None = None,
    *,
    memory: StateMemory | None = None,
) -> KeyedStateBackend:
    """A backend with the content that was saved; what it does to it leaves the files as they are. A database shares
    `memory` with others.

    RocksDB is opened in `directory`, which is made and must not hold a database yet; without one in a private
    temporary one, removed at close. Raises ConfigError for an unknown kind, StateError for files that are damaged or
    no backend's.
    """
    if kind == "memory":
        backend = MemoryBackend()
        for address, rows in saved_rows(files):
            backend.write(address, rows)
        return backend
    if kind == "rocksdb":
        from streamflow.state.backends.rocksdb.backend import RocksDBBackend

        return RocksDBBackend.of_files(files, directory, None if memory is None else memory.databases)
    raise ConfigError(f"no state backend {kind!r}", hint="the checkpoint was written by a newer program")
