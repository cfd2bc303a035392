"""The keyed state backend protocol: ordered bytes under (key group, operator, state, key).

Everything an operator remembers by key goes through this. The memory backend is the specification; RocksDB has to
pass the same suite. One thread at a time uses a backend. Calls are short but hold the interpreter: a caller with
many changes writes them in slices of a few thousand (`SLICE`) and lets others run in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from streamflow.core.keys import MAX_PARALLELISM_LIMIT
from streamflow.errors import StateError
from streamflow.state.backends.saved import Saved

__all__ = [
    "SLICE",
    "KeyedStateBackend",
    "StateAddress",
    "check_address",
    "check_change",
    "check_group",
    "copied",
]

SLICE: Final = 2_000
"""The largest number of small changes for one `write`: about 2 ms in RocksDB."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class StateAddress:
    """The address of state: an operator and the name of one of its states."""

    operator: str
    state: str


class KeyedStateBackend(Protocol):
    """Ordered bytes to bytes, by key group, operator and state. Raises StateError and nothing else."""

    def get(self, address: StateAddress, group: int, key: bytes) -> bytes | None: ...

    def get_many(self, address: StateAddress, keys: Sequence[tuple[int, bytes]]) -> list[bytes | None]:
        """The values of many (group, key), in order: cheaper than one by one."""
        ...

    def put(self, address: StateAddress, group: int, key: bytes, value: bytes) -> None: ...

    def delete(self, address: StateAddress, group: int, key: bytes) -> None: ...

    def write(self, address: StateAddress, changes: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        """Writes many changes (group, key, value) at once, all or none; value None deletes; of two for one key the
        last counts."""
        ...

    def scan(
        self, address: StateAddress, group: int, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys with start ≤ key < end in byte order, as they were when `scan` was called; damage raises, and never
        shortens the answer. A scan does not outlive `close`."""
        ...

    def groups(self, address: StateAddress) -> Iterator[int]:
        """The key groups in which this state has any key, ascending."""
        ...

    def take(self, source: KeyedStateBackend, states: Sequence[StateAddress], groups: range) -> int:
        """Take over the keys of these states that lie in these key groups from another backend, which has none in
        common with this one; how many were copied. None are where whole files could be linked. May block."""
        ...

    def flush(self) -> None:
        """Writes everything to files, if the backend has files; a thread may call it while the owner goes on."""
        ...

    def save(self, folder: Path) -> Saved | None:
        """The present content, to be stored while the backend goes on; None if it is empty. Called while no thread
        writes.

        `folder` does not exist yet: files that have to lie on the disk for it go there.
        """
        ...

    def close(self) -> None:
        """Releases resources; may be called twice. Every other call after it raises."""
        ...


def copied(
    source: KeyedStateBackend, target: KeyedStateBackend, states: Sequence[StateAddress], groups: range
) -> int:
    """`take` for any two backends: what was copied, in batches."""
    count = 0
    for address in states:
        for group in source.groups(address):
            rows = source.scan(address, group) if group in groups else iter(())
            while batch := [(group, key, value) for key, value in islice(rows, SLICE)]:
                target.write(address, batch)
                count += len(batch)
    return count


@lru_cache(maxsize=4096)
def check_address(address: StateAddress) -> StateAddress:
    """The address, if its names can stand in keys, paths and metrics; raises StateError otherwise.

    >>> check_address(StateAddress("window-3", "panes"))
    StateAddress(operator='window-3', state='panes')
    """
    for kind, name in (("operator", address.operator), ("state", address.state)):
        if not _NAME.fullmatch(name):
            raise StateError(
                f"{kind} name {name!r} cannot be used",
                hint="use 1 to 63 lower-case letters, digits, '-' and '_', beginning with a letter or digit",
            )
    return address


def check_group(group: int) -> None:
    """Raises StateError for a key group that has no place in a key."""
    if not 0 <= group < MAX_PARALLELISM_LIMIT:
        raise StateError(f"key group {group} is not one of 0 to {MAX_PARALLELISM_LIMIT - 1}")


def check_change(group: int, key: object, value: object) -> None:
    """Raises StateError for a change that is not bytes to bytes, or in no key group."""
    check_group(group)
    if not isinstance(key, bytes) or not isinstance(value, (bytes, type(None))):
        raise StateError(f"state holds bytes, not {type(key).__name__} to {type(value).__name__}")
