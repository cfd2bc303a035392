"""Reading a job's state out of one of its checkpoints as Polars DataFrames; the job need not run for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from streamflow.errors import ConfigError, StateError, Where, unknown_name
from streamflow.savepoints.place import chosen_manifest, open_job, removed_meanwhile, split_number
from streamflow.state.checkpoints.manifest import Manifest, OperatorEntry
from streamflow.state.checkpoints.store import CheckpointStore

__all__ = ["SavedOperator", "SavedState", "read_checkpoint"]


@dataclass(frozen=True, slots=True)
class SavedOperator:
    """One operator's part of a checkpoint: its states by name, bytes, subtasks and signature."""

    id: str
    kind: str
    parallelism: int
    states: tuple[str, ...]
    bytes: int
    signature: Mapping[str, Any] | None


class SavedState:
    """A checkpoint for reading; made by `read_checkpoint`. Every byte read is compared with its digest."""

    def __init__(self, store: CheckpointStore, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._entries = {operator.id: operator for operator in manifest.operators}

    def __repr__(self) -> str:
        return (
            f"SavedState({self.job!r}, checkpoint {self.number}, {len(self.operators)} operators with state)"
        )

    @property
    def job(self) -> str:
        """The job's name."""
        return self._manifest.job

    @property
    def number(self) -> int:
        """The checkpoint's number."""
        return self._manifest.number

    @property
    def manifest(self) -> Manifest:
        """The checkpoint's manifest."""
        return self._manifest

    @cached_property
    def operators(self) -> Mapping[str, SavedOperator]:
        """The operators that have state, by id."""
        found = {id: _described(entry) for id, entry in self._entries.items()}
        return {id: operator for id, operator in found.items() if operator.states}

    def state(self, operator: str) -> dict[str, pl.DataFrame]:
        """All states of an operator by name. Windows have `panes`: keys, slices of time, results so far. A
        `KeyedProcess` has its declared states, their keys and values as columns, and its timers.

        Raises ConfigError for an unknown operator, StateError if the checkpoint is damaged.
        """
        return self._frames(operator, self.operator(operator).states)

    def frame(self, operator: str, state: str) -> pl.DataFrame:
        """One state of an operator, from all of its subtasks."""
        states = self.operator(operator).states
        if state not in states:
            message, hint = unknown_name("state", state, states)
            raise ConfigError(message, where=Where(operator=operator), hint=hint)
        return self._frames(operator, (state,))[state]

    def operator(self, operator: str) -> SavedOperator:
        """The entry of one operator. Raises ConfigError if it has no state."""
        if operator not in self.operators:
            message, hint = unknown_name("operator with state", operator, self.operators)
            raise ConfigError(message, hint=hint)
        return self.operators[operator]

    def _frames(self, operator: str, states: tuple[str, ...]) -> dict[str, pl.DataFrame]:
        # Here, as below: a program that reads no state does not pay for imports that only reading needs.
        from streamflow.savepoints.keyed import keyed_frame, keyed_states
        from streamflow.savepoints.panes import pane_frame
        from streamflow.savepoints.shares import opened_parts

        entry = self._entries[operator]
        signature = entry.signature or {}
        keyed = set(keyed_states(signature))
        try:
            with opened_parts(self._store, entry) as (parts, keys):
                return {
                    state: keyed_frame(operator, state, signature, parts)
                    if state in keyed
                    else pane_frame(operator, state, keys, signature, parts, self._manifest.max_parallelism)
                    for state in states
                }
        except StateError as error:
            if self.number not in self._store.numbers():
                raise removed_meanwhile(self._store, self.number) from error
            raise error.at(Where(operator=operator)) from error.__cause__


def read_checkpoint(
    path: str | os.PathLike[str],
    *,
    job: str | None = None,
    number: int | None = None,
    key: str | bytes | None = None,
) -> SavedState:
    """A checkpoint's state: the newest in a checkpoint directory or object store, or `number`, or `PATH#NUMBER`.

    `job` names one of several jobs; `key` is the signing key of the checkpoints (default: the setting
    `checkpoint_key`). Raises ConfigError if there is none, StateError if it is damaged.

    >>> read_checkpoint("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    streamflow.errors.ConfigError: there are no checkpoints in no/such/folder; ...
    """
    root, numbered = split_number(os.fspath(path))
    store = open_job(root, job, key.encode() if isinstance(key, str) else key)
    return SavedState(store, chosen_manifest(store, numbered if number is None else number))


def _described(entry: OperatorEntry) -> SavedOperator:
    from streamflow.savepoints.keyed import keyed_states
    from streamflow.savepoints.shares import table_names

    states = keyed_states(entry.signature or {}) or table_names(entry)
    size = sum(file.size for subtask in entry.subtasks for file in subtask.files)
    return SavedOperator(entry.id, entry.kind, entry.parallelism, tuple(states), size, entry.signature)
