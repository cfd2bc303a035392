"""A backend that is in memory while it is small, and a database on disk from then on.

Nothing appears on disk, and no files are held open, for an operator that never needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from streamflow.errors import StateError
from streamflow.state.backends.memory import MemoryBackend
from streamflow.state.backends.protocol import SLICE, KeyedStateBackend, StateAddress, copied
from streamflow.state.backends.saved import Saved

__all__ = ["GrowingBackend"]

Twin = Callable[[KeyedStateBackend, Sequence[StateAddress], range], KeyedStateBackend | None]


def _no_twin(source: KeyedStateBackend, states: Sequence[StateAddress], groups: range) -> None:
    """The files of no backend can be linked."""


class GrowingBackend:
    """A backend in memory up to `small` bytes of keys and values (None: for ever), then the backend that `factory`
    opens.

    `twin` makes the latter out of another one's files, if that can be: of the keys of some states and key groups.
    `begun` is a backend in memory to begin with.

    >>> backend, address = GrowingBackend(MemoryBackend, small=2), StateAddress("count-1", "totals")
    >>> backend.put(address, 7, b"k", b"v")
    >>> backend.get(address, 7, b"k"), backend.grown
    (b'v', False)
    >>> backend.put(address, 8, b"k", b"v")
    >>> backend.get(address, 7, b"k"), backend.grown
    (b'v', True)
    """

    def __init__(
        self,
        factory: Callable[[], KeyedStateBackend],
        twin: Twin = _no_twin,
        *,
        small: int | None = 0,
        begun: MemoryBackend | None = None,
    ) -> None:
        self._factory = factory
        self._twin = twin
        self._small = small
        self._memory = MemoryBackend() if begun is None else begun
        self._large: KeyedStateBackend | None = None

    @property
    def grown(self) -> bool:
        """Whether it has left memory."""
        return self._large is not None

    @property
    def _backend(self) -> KeyedStateBackend:
        return self._memory if self._large is None else self._large

    def get(self, address: StateAddress, group: int, key: bytes) -> bytes | None:
        return self._backend.get(address, group, key)

    def get_many(self, address: StateAddress, keys: Sequence[tuple[int, bytes]]) -> list[bytes | None]:
        return self._backend.get_many(address, keys)

    def put(self, address: StateAddress, group: int, key: bytes, value: bytes) -> None:
        self.write(address, [(group, key, value)])

    def delete(self, address: StateAddress, group: int, key: bytes) -> None:
        self.write(address, [(group, key, None)])

    def write(self, address: StateAddress, changes: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        self._backend.write(address, changes)
        if self._large is None and self._small is not None and self._memory.nbytes > self._small:
            self._grow(self._factory())

    def scan(
        self, address: StateAddress, group: int, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._backend.scan(address, group, start, end)

    def groups(self, address: StateAddress) -> Iterator[int]:
        return self._backend.groups(address)

    def take(self, source: KeyedStateBackend, states: Sequence[StateAddress], groups: range) -> int:
        if self._large is not None:
            return self._large.take(source, states, groups)
        if any(group in groups for address in states for group in source.groups(address)):
            twin = self._twin(source, states, groups)
            if twin is not None:
                self._grow(twin)
                return 0
        return copied(source, self, states, groups)

    def flush(self) -> None:
        self._backend.flush()

    def save(self, folder: Path) -> Saved | None:
        saved = self._backend.save(folder)
        return None if self._large is None and self._memory.empty else saved

    def close(self) -> None:
        self._memory.close()
        if self._large is not None:
            self._large.close()

    def _grow(self, large: KeyedStateBackend) -> None:
        """Moves all rows from memory to `large`."""
        try:
            for address, rows in self._memory.contents():
                while batch := list(islice(rows, SLICE)):
                    large.write(address, batch)
        except StateError:
            large.close()
            raise
        self._large = large
        self._memory.clear()
