"""The reference backend, which every other backend has to agree with, in dictionaries and sorted lists.

It keeps everything in memory, which also makes it the choice for tests and small jobs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamflow.errors import StateError
from streamflow.state.backends.protocol import (
    KeyedStateBackend,
    StateAddress,
    check_address,
    check_change,
    check_group,
    copied,
)
from streamflow.state.backends.saved_memory import SavedMemory

__all__ = ["MemoryBackend"]


@dataclass(slots=True)
class _Group:
    """The keys of one state in one key group: values by key, and the keys in byte order."""

    values: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    ordered: list[bytes] = field(default_factory=list[bytes])

    def put(self, key: bytes, value: bytes) -> int:
        """Sets a key's value; returns the additional bytes."""
        before = self.values.get(key)
        self.values[key] = value
        if before is None:
            insort(self.ordered, key)
            return len(key) + len(value)
        return len(value) - len(before)

    def delete(self, key: bytes) -> int:
        """Deletes a key; returns the additional bytes: negative, or 0."""
        before = self.values.pop(key, None)
        if before is None:
            return 0
        del self.ordered[bisect_left(self.ordered, key)]
        return -len(key) - len(before)

    def between(self, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        first = bisect_left(self.ordered, start)
        last = len(self.ordered) if end is None else bisect_left(self.ordered, end)
        return [(key, self.values[key]) for key in self.ordered[first:last]]


class MemoryBackend:
    """Keyed state in this process's memory.

    >>> backend, address = MemoryBackend(), StateAddress("count-1", "totals")
    >>> backend.put(address, 7, b"k", b"v")
    >>> list(backend.scan(address, 7)), list(backend.groups(address))
    ([(b'k', b'v')], [7])
    """

    def __init__(self) -> None:
        self.nbytes = 0
        """Bytes of keys and values; what Python takes beside them is not counted."""
        self._states: dict[StateAddress, dict[int, _Group]] = {}
        self._closed = False

    def get(self, address: StateAddress, group: int, key: bytes) -> bytes | None:
        found = self._find(address, group)
        return None if found is None else found.values.get(key)

    def get_many(self, address: StateAddress, keys: Sequence[tuple[int, bytes]]) -> list[bytes | None]:
        return [self.get(address, group, key) for group, key in keys]

    def put(self, address: StateAddress, group: int, key: bytes, value: bytes) -> None:
        self.write(address, [(group, key, value)])

    def delete(self, address: StateAddress, group: int, key: bytes) -> None:
        self.write(address, [(group, key, None)])

    def write(self, address: StateAddress, changes: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        self._check_open()
        checked = list(changes)
        for change in checked:
            check_change(*change)
        state = self._states.setdefault(check_address(address), {})
        for group, key, value in checked:
            if value is None:
                if group in state:
                    self.nbytes += state[group].delete(key)
            else:
                self.nbytes += state.setdefault(group, _Group()).put(key, value)

    def scan(
        self, address: StateAddress, group: int, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        found = self._find(address, group)
        return self._while_open([] if found is None else found.between(start, end))

    def groups(self, address: StateAddress) -> Iterator[int]:
        self._check_open()
        state = self._states.get(check_address(address), {})
        return iter(sorted(group for group, content in state.items() if content.values))

    def take(self, source: KeyedStateBackend, states: Sequence[StateAddress], groups: range) -> int:
        return copied(source, self, states, groups)

    def contents(self) -> Iterator[tuple[StateAddress, Iterator[tuple[int, bytes, bytes]]]]:
        """All that it has: (key group, key, value) of each state."""
        for address, state in self._states.items():
            yield (
                address,
                (
                    (group, key, content.values[key])
                    for group, content in state.items()
                    for key in content.ordered
                ),
            )

    @property
    def empty(self) -> bool:
        """Whether it has no keys."""
        return not any(content.values for state in self._states.values() for content in state.values())

    def clear(self) -> None:
        """Forget all that it has; scans that have begun go on."""
        self._states.clear()
        self.nbytes = 0

    def flush(self) -> None:
        self._check_open()

    def save(self, folder: Path) -> SavedMemory:
        self._check_open()
        return SavedMemory(
            {
                address: {group: content.values.copy() for group, content in state.items() if content.values}
                for address, state in self._states.items()
            }
        )

    def close(self) -> None:
        self._closed = True
        self.clear()

    def _find(self, address: StateAddress, group: int) -> _Group | None:
        self._check_open()
        check_group(group)
        return self._states.get(check_address(address), {}).get(group)

    def _while_open(self, rows: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for row in rows:
            self._check_open()
            yield row

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("the state backend is closed", hint="a scan or a write came after close")
