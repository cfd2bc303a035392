"""`ListHandle`: a list for each key, stored in chunks of `CHUNK` elements, so that adding to a long list does not
write it again.

Under the key's bytes lies the *head*: the number of full chunks. Under these bytes and four more, the number of the
chunk, lie the chunks; only the last one, which is not full, is written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from streamflow.core.serde import pack, unpack
from streamflow.errors import RecordError, StateError, cut
from streamflow.state.backends.protocol import SLICE
from streamflow.state.keyed.cache import GROUP, KEY, KEY_BYTES, UNLOADED, Changes, Slot, StateCache
from streamflow.state.keyed.handle import KeyedHandle, encoded
from streamflow.state.keyed.ttl import STAMP_BYTES, Aged, TimeToLive, stamp
from streamflow.state.keyed.value_types import ValueType

__all__ = ["CHUNK", "ListHandle"]

T = TypeVar("T")

CHUNK: Final = 256
_NUMBER_BYTES: Final = 4


class _Cell(Aged):
    """The known part of one key's list: the number of full chunks, those not written yet, and the rest."""

    __slots__ = ("full", "tail", "unwritten")

    def __init__(self, full: int, tail: list[Any]) -> None:
        super().__init__()
        self.full = full
        self.tail = tail
        self.unwritten: list[tuple[int, list[Any]]] = []

    @property
    def empty(self) -> bool:
        return not self.full and not self.tail


class ListHandle(KeyedHandle, Generic[T]):
    """A list for the current key. Its time to live, if it has one, counts for the whole list."""

    __slots__ = ("_dump", "_load", "_type")
    kind = "ListState"
    methods = "add(value), add_all(values), get(), update(values), is_empty() or clear()"

    def __init__(self, cache: StateCache, name: str, type_: ValueType, ttl: TimeToLive | None) -> None:
        self._type = type_
        self._dump, self._load = type_.dump, type_.load
        super().__init__(cache, name, ttl)

    def add(self, value: T) -> None:
        """Appends an element. Raises RecordError for one of another type."""
        self._append([self._type.checked(value, self._what)])

    def add_all(self, values: Iterable[T]) -> None:
        """Append several."""
        self._append([self._type.checked(value, self._what) for value in values])

    def get(self) -> list[T]:
        """All elements in order, as a new list; changing it, or an element in place, changes nothing stored."""
        slot = self._current.slot
        cell = self._cell(slot)
        if cell.empty:
            return []
        if self.expiry is not None and self.expiry.used(cell):
            self._cache.mark(slot, self._bit)
        values: list[T] = []
        unwritten = dict(cell.unwritten)
        for number in range(cell.full):
            chunk = unwritten.get(number)
            values += self._read(slot, number) if chunk is None else self._copied(chunk)
        return values + self._copied(cell.tail)

    def update(self, values: Iterable[T]) -> None:
        """Replace the whole list."""
        checked = [self._type.checked(value, self._what) for value in values]
        self.clear()
        self._append(checked)

    def clear(self) -> None:
        """Empties the list."""
        slot = self._current.slot
        cell = self._cell(slot)
        if not cell.empty:
            self._empty(slot, cell)

    def is_empty(self) -> bool:
        """Whether the list is empty."""
        return self._cell(self._current.slot).empty

    def __iter__(self) -> Iterator[T]:
        return iter(self.get())

    def changes(self, slots: Sequence[Slot]) -> Changes:
        changes: Changes = []
        for slot in slots:
            cell: _Cell = slot[self._index]
            if self.expiry is not None and not cell.empty:
                self.expiry.settle(cell, slot)
            prefix, group = slot[KEY_BYTES], slot[GROUP]
            for number, chunk in cell.unwritten:
                changes.append((group, prefix + _number(number), pack(chunk)))
            cell.unwritten.clear()
            tail = pack(cell.tail) if cell.tail else None
            changes.append((group, prefix + _number(cell.full), tail))
            changes.append((group, prefix, self._head(cell)))
        return changes

    def clean(self) -> None:
        expiry = self.expiry
        for key, _, group in () if expiry is None else expiry.due():
            slot = self._cache.slot_of(key, group)
            cell = self._cell(slot)
            if expiry is not None and not cell.empty:
                expiry.settle(cell, slot, taken=True)

    def _append(self, values: list[Any]) -> None:
        if not values:
            return
        slot = self._current.slot
        cell = self._cell(slot)
        if self.expiry is not None:
            if cell.empty:
                self.expiry.begin(cell, slot)
            else:
                self.expiry.written(cell)
        # As plain values from now on: later changes in place do not change the list.
        cell.tail += self._plain(slot, values)
        self._cache.grew(len(values))
        while len(cell.tail) >= CHUNK:
            cell.unwritten.append((cell.full, cell.tail[:CHUNK]))
            cell.tail = cell.tail[CHUNK:]
            cell.full += 1
        self._cache.mark(slot, self._bit)
        if len(cell.unwritten) * CHUNK >= SLICE:
            self._cache.backend.write(self.address, self.changes([slot]))

    def _plain(self, slot: Slot, values: list[Any]) -> list[Any]:
        dump, mutable = self._dump, self._type.mutable
        if dump is None and not mutable:
            return values

        def plain(values: list[Any]) -> list[Any]:
            dumped = values if dump is None else [dump(value) for value in values]
            return list(unpack(pack(dumped))) if mutable else dumped

        try:
            return encoded(plain, values, self.address.state, slot[KEY])
        except StateError as error:
            # Found out when the value is handed over, so the error is that record's.
            raise RecordError(error.message, record=values, hint=error.hint) from error

    def _copied(self, plain: list[Any]) -> list[Any]:
        """New elements made of plain values."""
        if self._type.mutable:
            plain = unpack(pack(plain))
        load = self._load
        return list(plain) if load is None else [load(value) for value in plain]

    def _cell(self, slot: Slot) -> _Cell:
        """The list, which is empty once it has expired."""
        cell: Any = slot[self._index]
        expiry = self.expiry
        if cell is UNLOADED:
            head = self._cache.backend.get(self.address, slot[GROUP], slot[KEY_BYTES])
            if head is None:
                cell = _Cell(0, [])
            else:
                full = unpack(head if expiry is None else head[STAMP_BYTES:])
                cell = _Cell(full, self._stored(slot, full, may_lack=True))
                if expiry is not None:
                    expiry.read_back(cell, head)
                self._cache.grew(len(cell.tail))
            slot[self._index] = cell
        if expiry is not None and not cell.empty and expiry.over(cell):
            self._empty(slot, cell)
        return cast("_Cell", cell)

    def _empty(self, slot: Slot, cell: _Cell) -> None:
        if self.expiry is not None:
            self.expiry.forget(cell, slot)
        written = cell.full - len(cell.unwritten)
        prefix, group = slot[KEY_BYTES], slot[GROUP]
        # A part of the chunk after those lies at the end of the list as last written.
        stored = written + 1 if written else 0
        for start in range(0, stored, SLICE):
            numbers = range(start, min(stored, start + SLICE))
            gone: Changes = [(group, prefix + _number(number), None) for number in numbers]
            self._cache.backend.write(self.address, gone)
        cell.full, cell.tail = 0, []
        cell.unwritten.clear()
        self._cache.mark(slot, self._bit)

    def _read(self, slot: Slot, number: int) -> list[Any]:
        chunk = self._stored(slot, number, may_lack=False)
        load = self._load
        return chunk if load is None else [load(value) for value in chunk]

    def _stored(self, slot: Slot, number: int, *, may_lack: bool) -> list[Any]:
        data = self._cache.backend.get(self.address, slot[GROUP], slot[KEY_BYTES] + _number(number))
        if data is None and may_lack:
            return []
        values: Any = None if data is None else unpack(data)
        if not isinstance(values, list):
            raise StateError(
                f"{self._what}: chunk {number} of the list of {cut(slot[KEY], 80)} is missing or damaged",
                hint="restore from a checkpoint",
            )
        return cast("Any", values)  # type: ignore[no-any-return]

    def _head(self, cell: _Cell) -> bytes | None:
        if cell.empty:
            return None
        return pack(cell.full) if self.expiry is None else stamp(cell.since) + pack(cell.full)


def _number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")
