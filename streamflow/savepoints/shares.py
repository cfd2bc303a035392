"""One operator's share of a checkpoint, subtask by subtask: values, tables, keyed backend."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from streamflow.errors import DamagedError
from streamflow.runtime.checkpoints.snapshots import BACKEND, TABLE, VALUES, described
from streamflow.state.backends.factory import open_saved
from streamflow.state.backends.protocol import KeyedStateBackend
from streamflow.state.checkpoints.manifest import OperatorEntry, StoredFile, SubtaskEntry
from streamflow.state.checkpoints.store import CheckpointStore
from streamflow.state.checkpoints.tables import decode_table
from streamflow.state.operator_snapshot import StatePart, Table

__all__ = ["opened_parts", "table_names"]


@contextmanager
def opened_parts(
    store: CheckpointStore, operator: OperatorEntry, *, backends: bool = True
) -> Generator[tuple[list[StatePart], tuple[str, ...]]]:
    """The parts of all subtasks and the key columns of their tables; `backends` are open inside this context.

    Every byte is compared with its digest. Raises StateError for damage.
    """
    with ExitStack() as opened:
        parts: list[StatePart] = []
        keys: tuple[str, ...] = ()
        for subtask in operator.subtasks:
            values, columns = _values(store, subtask)
            keys = columns or keys
            backend = _backend(store, subtask, opened) if backends else None
            groups = range(subtask.first_group, subtask.last_group + 1)
            parts.append(StatePart(groups, values, _tables(store, subtask), backend))
        yield parts, keys


def table_names(operator: OperatorEntry) -> list[str]:
    """The tables of an operator, by its files' names."""
    names = [file.name for subtask in operator.subtasks for file in subtask.files]
    return sorted({name.removeprefix(TABLE) for name in names if name.startswith(TABLE)})


def _values(store: CheckpointStore, subtask: SubtaskEntry) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    for file in subtask.files:
        if file.name == VALUES:
            values, columns, _ = described(store.read(file))
            return values, columns
    return {}, ()


def _tables(store: CheckpointStore, subtask: SubtaskEntry) -> dict[str, Table]:
    files = {file.name: file for file in subtask.files}

    def read(frame: str) -> bytes:
        if frame not in files:
            raise DamagedError(f"subtask {subtask.subtask} has no {frame} in the checkpoint")
        return store.read(files[frame])

    return {
        name.removeprefix(TABLE): decode_table(store.read(file), read)
        for name, file in files.items()
        if name.startswith(TABLE)
    }


def _backend(store: CheckpointStore, subtask: SubtaskEntry, opened: ExitStack) -> KeyedStateBackend | None:
    if subtask.backend is None:
        return None
    files = _BackendFiles(store, [file for file in subtask.files if file.name.startswith(BACKEND)])
    backend = open_saved(subtask.backend, files)
    opened.callback(backend.close)
    return backend


class _BackendFiles:
    """A backend's files in the checkpoint store."""

    def __init__(self, store: CheckpointStore, files: Sequence[StoredFile]) -> None:
        self._store = store
        self._files = {file.name.removeprefix(BACKEND): file for file in files}

    @property
    def names(self) -> Sequence[str]:
        return list(self._files)

    def read(self, name: str) -> bytes:
        return self._store.read(self._files[name])

    def fetch(self, name: str, path: Path) -> None:
        self._store.fetch(self._files[name], path)
