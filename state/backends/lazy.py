"""A backend that is opened by its first write: nothing appears on disk for an operator that never needs
it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from streamflow.errors import StateError
from streamflow.state.backends.protocol import (
    KeyedStateBackend,
    StateAddress,
    check_address,
    check_change,
    check_group,
)
from streamflow.state.backends.saved import Saved

__all__ = ["LazyBackend"]


Twin = Callable[[KeyedStateBackend, Sequence[StateAddress], range], KeyedStateBackend | None]


def _no_twin(source: KeyedStateBackend, states: Sequence[StateAddress], groups: range) -> None:
    """The files of no backend can be linked."""


class LazyBackend:
    """Stands for the backend that `factory` opens; empty until the first put.

    For new state only: state that exists already has to be opened at once, or reads would find nothing.

    >>> from streamflow.state.backends.memory import MemoryBackend
    >>> backend, address = LazyBackend(MemoryBackend), StateAddress("count-1", "totals")
    >>> backend.get(address, 7, b"k"), backend.opened
    (None, False)
    >>> backend.put(address, 7, b"k", b"v")
    >>> backend.get(address, 7, b"k"), backend.opened
    (b'v', True)
    """

    def __init__(
        self,
        factory: Callable[[], KeyedStateBackend],
        twin: Twin = _no_twin,
    ) -> None:
        """`twin` makes a backend out of another one's files, if that can be: of the keys of some states and groups."""
        self._factory = factory
        self._twin = twin
        self._backend: KeyedStateBackend | None = None
        self._closed = False

    @property
    def opened(self) -> bool:
        """Whether the backend behind it has been opened."""
        return self._backend is not None

    def get(self, address: StateAddress, group: int, key: bytes) -> bytes | None:
        backend = self._existing(address, group)
        return None if backend is None else backend.get(address, group, key)

    def get_many(self, address: StateAddress, keys: Sequence[tuple[int, bytes]]) -> list[bytes | None]:
        backend = self._existing(address, 0)
        return [None] * len(keys) if backend is None else backend.get_many(address, keys)

    def put(self, address: StateAddress, group: int, key: bytes, value: bytes) -> None:
        self.write(address, [(group, key, value)])

    def delete(self, address: StateAddress, group: int, key: bytes) -> None:
        self.write(address, [(group, key, None)])

    def write(self, address: StateAddress, changes: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        backend = self._existing(address, 0)
        if backend is not None:
            backend.write(address, changes)
            return
        checked = list(changes)
        for change in checked:
            check_change(*change)
        if any(value is not None for _, _, value in checked):
            self._backend = self._factory()
            self._backend.write(address, checked)

    def scan(
        self, address: StateAddress, group: int, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        backend = self._existing(address, group)
        return iter(()) if backend is None else backend.scan(address, group, start, end)

    def groups(self, address: StateAddress) -> Iterator[int]:
        backend = self._existing(address, 0)
        return iter(()) if backend is None else backend.groups(address)

    def take(self, source: KeyedStateBackend, states: Sequence[StateAddress], groups: range) -> int:
        backend = self._existing(states[0], 0) if states else None
        if backend is None:
            if not any(group in groups for address in states for group in source.groups(address)):
                return 0
            self._backend = self._twin(source, states, groups)
            if self._backend is not None:
                return 0
            backend = self._backend = self._factory()
        return backend.take(source, states, groups)

    def flush(self) -> None:
        if self._backend is not None:
            self._backend.flush()

    def save(self, folder: Path) -> Saved | None:
        return None if self._backend is None else self._backend.save(folder)

    def close(self) -> None:
        self._closed = True
        if self._backend is not None:
            self._backend.close()

    def _existing(self, address: StateAddress, group: int) -> KeyedStateBackend | None:
        if self._closed:
            raise StateError("the state backend is closed", hint="a scan or a write came after close")
        check_address(address)
        check_group(group)
        return self._backend
