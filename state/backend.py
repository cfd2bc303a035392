"""The keyed state backend protocol: ordered bytes under (key group, operator, state, key).

Everything an operator remembers by key goes through this. The memory backend is the specification; RocksDB has to
pass the same suite. Blocking calls are short; what takes long says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["KeyedStateBackend", "StateAddress"]


@dataclass(frozen=True, slots=True)
class StateAddress:
    """Whose state it is: an operator and the name of one of its states."""

    operator: str
    state: str


class KeyedStateBackend(Protocol):
    """Ordered bytes to bytes, by key group, operator and state."""

    def get(self, address: StateAddress, group: int, key: bytes) -> bytes | None: ...

    def put(self, address: StateAddress, group: int, key: bytes, value: bytes) -> None: ...

    def delete(self, address: StateAddress, group: int, key: bytes) -> None: ...

    def write(
        self, address: StateAddress, changes: Iterable[tuple[int, bytes, bytes | None]]
    ) -> None:
        """Many changes (group, key, value) at once, all or none; value None deletes."""
        ...

    def scan(
        self, address: StateAddress, group: int, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys with start ≤ key < end in byte order, as they were when the scan began."""
        ...

    def groups(self, address: StateAddress) -> Iterator[int]:
        """The key groups in which this state has any key, ascending."""
        ...

    def close(self) -> None: ...
