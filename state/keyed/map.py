"""`MapHandle`: a map for each key, each entry under its own key in the backend, so that a large map is not one value.

An entry's key is the bytes of the stream's key and then those of the map's key. Neither is ever a prefix of another,
so the entries of a key are one range of keys. A cell holds the entries that have been used, and whether those are
all; iterating over a map of more than `WHOLE` entries reads the backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, Generic, TypeVar, overload

from streamflow.state.backends.protocol import SLICE
from streamflow.state.keyed.cache import ABSENT, GROUP, KEY, KEY_BYTES, UNLOADED, Changes, Slot, StateCache
from streamflow.state.keyed.handle import Entry, KeyedHandle, encoded
from streamflow.state.keyed.ttl import STAMP_BYTES, Aged, TimeToLive, stamp
from streamflow.state.keyed.value_types import ValueType

__all__ = ["MapHandle", "range_end"]

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

WHOLE: Final = 1_024
"""The largest map that is kept whole once it has been iterated over, in entries."""


def range_end(prefix: bytes) -> bytes | None:
    """The smallest key above all that begin with `prefix`; None if there is none.

    >>> range_end(b"a\\xff"), range_end(b"\\xff")
    (b'b', None)
    """
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


class _Cell:
    """The known entries of one key's map, by packed map key; ABSENT for a known gap."""

    __slots__ = ("changed", "entries", "whole")

    def __init__(self) -> None:
        self.entries: dict[bytes, Any] = {}
        self.changed: set[bytes] = set()
        self.whole = False


class MapHandle(KeyedHandle, Generic[K, V]):
    """A map for the current key. Reading a value that can change in place counts as writing it."""

    __slots__ = ("_decode", "_decode_key", "_encode", "_encode_key", "_key_type", "_same_key", "_type")
    kind = "MapState"
    methods = (
        "get(key), put(key, value), put_all(entries), contains(key), remove(key), keys(), values(), items(), is_empty()"
        " or clear()"
    )

    def __init__(
        self, cache: StateCache, name: str, key_type: ValueType, type_: ValueType, ttl: TimeToLive | None
    ) -> None:
        self._key_type = key_type
        self._same_key = key_type.comes_back_the_same
        self._type = type_
        self._encode_key, self._decode_key = key_type.encoder(key=True), key_type.decoder()
        self._encode, self._decode = type_.encoder(), type_.decoder()
        super().__init__(cache, name, ttl)

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value under `key`, or the default."""
        slot = self._current.slot
        cell = self._cell(slot)
        packed = self._packed(key)
        entry = self._entry(slot, cell, packed, key)
        if entry is ABSENT:
            return default
        self._used(slot, cell, packed, entry)
        return entry.value

    def put(self, key: K, value: V) -> None:
        """Sets the value under `key`. Raises RecordError if a type is not the declared one."""
        value = self._type.checked(value, self._what)
        slot = self._current.slot
        cell = self._cell(slot)
        packed = self._packed(key)
        if self.expiry is None:
            if packed not in cell.entries:
                self._cache.grew(1)
            cell.entries[packed] = Entry(value, self._shown(packed, key))
        else:
            entry = self._entry(slot, cell, packed, key)
            if entry is ABSENT:
                entry = Entry(value, self._shown(packed, key))
                cell.entries[packed] = self.expiry.begin(entry, slot, packed)
            else:
                entry.value = value
                self.expiry.written(entry)
        self._changed(slot, cell, packed)

    def put_all(self, entries: dict[K, V]) -> None:
        """Sets several values."""
        for key, value in entries.items():
            self.put(key, value)

    def remove(self, key: K) -> None:
        """Delete the entry under `key`, if there is one."""
        slot = self._current.slot
        cell = self._cell(slot)
        packed = self._packed(key)
        if cell.whole and packed not in cell.entries:
            return
        if self.expiry is not None:
            entry = self._entry(slot, cell, packed, key)  # read, since it has a place in the queue
            if entry is not ABSENT:
                self._drop(slot, cell, packed, entry)
            return
        if packed not in cell.entries:
            self._cache.grew(1)
        cell.entries[packed] = ABSENT
        self._changed(slot, cell, packed)

    def contains(self, key: K) -> bool:
        """Whether there is an entry under `key`."""
        slot = self._current.slot
        cell = self._cell(slot)
        return self._entry(slot, cell, self._packed(key), key) is not ABSENT

    def items(self) -> Iterator[tuple[K, V]]:
        """The entries, in no promised order. An entry that is put during the iteration may come or not."""
        slot = self._current.slot
        cell = self._cell(slot)
        if not cell.whole:
            large = self._fill(slot, cell)
            if large is not None:
                return large
        alive: list[tuple[K, V]] = []
        for packed, entry in list(cell.entries.items()):
            if not self._gone(slot, cell, packed, entry):
                self._used(slot, cell, packed, entry)
                alive.append((entry.key, entry.value))
        return iter(alive)

    def keys(self) -> Iterator[K]:
        """The present keys."""
        return (key for key, _ in self.items())

    def values(self) -> Iterator[V]:
        """The present values."""
        return (value for _, value in self.items())

    def is_empty(self) -> bool:
        """Whether the map is empty."""
        return next(self.items(), None) is None

    def clear(self) -> None:
        """Delete all entries."""
        slot = self._current.slot
        backend, prefix, group = self._cache.backend, slot[KEY_BYTES], slot[GROUP]
        known, length = self._cell(slot).entries, len(prefix)
        aged: dict[bytes, Aged] = {packed: entry for packed, entry in known.items() if entry is not ABSENT}
        gone: Changes = []
        for key, data in backend.scan(self.address, group, prefix, range_end(prefix)):
            gone.append((group, key, None))
            if self.expiry is not None and key[length:] not in known:
                aged[key[length:]] = self.expiry.read_back(Aged(), data)
        if self.expiry is not None:
            for packed, entry in aged.items():
                self.expiry.forget(entry, slot, packed)
        for start in range(0, len(gone), SLICE):
            backend.write(self.address, gone[start : start + SLICE])
        slot[self._index] = cell = _Cell()
        cell.whole = True

    def __contains__(self, key: K) -> bool:
        return self.contains(key)

    def __iter__(self) -> Iterator[K]:
        return self.keys()

    def changes(self, slots: Sequence[Slot]) -> Changes:
        changes: Changes = []
        for slot in slots:
            cell: _Cell = slot[self._index]
            changes += self._unwritten(slot, cell)
            cell.changed.clear()
            _trim(cell)
        return changes

    def clean(self) -> None:
        if self.expiry is not None:
            self.expiry.clean(self._cache, self.address, self._known, self._drop_known)

    def _known(self, slot: Slot, packed: bytes) -> Any:
        cell = slot[self._index]
        return None if cell is UNLOADED else cell.entries.get(packed)

    def _drop_known(self, slot: Slot, packed: bytes, entry: Any) -> None:
        self._drop(slot, slot[self._index], packed, entry)

    def _cell(self, slot: Slot) -> _Cell:
        cell: Any = slot[self._index]
        if cell is UNLOADED:
            cell = slot[self._index] = _Cell()
        return cell  # type: ignore[no-any-return]

    def _packed(self, key: K) -> bytes:
        key = self._key_type.checked(key, f"{self._what} by key")
        return self._encode_key(key)

    def _shown(self, packed: bytes, key: Any) -> Any:
        """The key as users see it, the same before and after a restore: equal times in UTC."""
        return key if self._same_key else self._decode_key(packed)

    def _entry(self, slot: Slot, cell: _Cell, packed: bytes, key: Any) -> Any:
        entry = cell.entries.get(packed)
        if entry is None:
            if cell.whole:
                return ABSENT
            data = self._cache.backend.get(self.address, slot[GROUP], slot[KEY_BYTES] + packed)
            entry = cell.entries[packed] = (
                ABSENT if data is None else self._decoded(self._shown(packed, key), data)
            )
            self._cache.grew(1)
        return ABSENT if self._gone(slot, cell, packed, entry) else entry

    def _gone(self, slot: Slot, cell: _Cell, packed: bytes, entry: Any) -> bool:
        """Whether an entry is missing or expired."""
        if entry is ABSENT:
            return True
        if self.expiry is None or not self.expiry.over(entry):
            return False
        self._drop(slot, cell, packed, entry)
        return True

    def _drop(self, slot: Slot, cell: _Cell, packed: bytes, entry: Any) -> None:
        """Forgets an entry and its place in the queue."""
        assert self.expiry is not None
        self.expiry.forget(entry, slot, packed)
        cell.entries[packed] = ABSENT
        self._changed(slot, cell, packed)

    def _used(self, slot: Slot, cell: _Cell, packed: bytes, entry: Any) -> None:
        """An entry has been handed out."""
        if (self.expiry is not None and self.expiry.used(entry)) or self._type.mutable:
            self._changed(slot, cell, packed)

    def _changed(self, slot: Slot, cell: _Cell, packed: bytes) -> None:
        cell.changed.add(packed)
        self._cache.mark(slot, self._bit)
        if len(cell.changed) >= SLICE:
            if self._type.mutable:
                # Values in a user's hands may still be changed in place until the event is over.
                self._cache.overdue = True
            else:
                self._write_back(slot, cell)
                _trim(cell)

    def _write_back(self, slot: Slot, cell: _Cell) -> None:
        if cell.changed:
            self._cache.backend.write(self.address, self._unwritten(slot, cell))
            if not self._type.mutable:
                cell.changed.clear()

    def _unwritten(self, slot: Slot, cell: _Cell) -> Changes:
        prefix, group, entries = slot[KEY_BYTES], slot[GROUP], cell.entries
        if self.expiry is not None:
            for packed in cell.changed:
                if (entry := entries[packed]) is not ABSENT:
                    self.expiry.settle(entry, slot, packed)
        return [(group, prefix + packed, self._encoded(slot, entries[packed])) for packed in cell.changed]

    def _fill(self, slot: Slot, cell: _Cell) -> Iterator[tuple[K, V]] | None:
        """Read the whole map into the cell; one that is too large is handed out as it is read."""
        self._write_back(slot, cell)
        prefix = slot[KEY_BYTES]
        length = len(prefix)
        rows = self._cache.backend.scan(self.address, slot[GROUP], prefix, range_end(prefix))
        found: list[tuple[bytes, Entry]] = []
        for key, data in rows:
            packed = key[length:]
            found.append((packed, self._decoded(self._decode_key(packed), data)))
            if len(found) > WHOLE:
                return self._read(slot, cell, found, rows)
        for packed, entry in found:
            # A value in a user's hands stays the same object: it may be changed in place.
            cell.entries.setdefault(packed, entry)
        self._cache.grew(len(found))
        cell.whole = True
        return None

    def _read(
        self, slot: Slot, cell: _Cell, first: list[tuple[bytes, Entry]], rows: Iterator[tuple[bytes, bytes]]
    ) -> Iterator[tuple[K, V]]:
        length = len(slot[KEY_BYTES])
        keep = self._type.mutable or (self.expiry is not None and self.expiry.ttl.refresh == "read")
        rest = ((key[length:], self._decoded(self._decode_key(key[length:]), data)) for key, data in rows)
        for packed, stored in chain(first, rest):
            entry = cell.entries.get(packed, stored)
            if self._gone(slot, cell, packed, entry):
                continue
            if keep:
                cell.entries[packed] = entry
                self._used(slot, cell, packed, entry)
            yield entry.key, entry.value

    def _decoded(self, key: Any, data: bytes) -> Entry:
        if self.expiry is None:
            return Entry(self._decode(data), key)
        return self.expiry.read_back(Entry(self._decode(data[STAMP_BYTES:]), key), data)

    def _encoded(self, slot: Slot, entry: Any) -> bytes | None:
        if entry is ABSENT:
            return None
        data = encoded(self._encode, entry.value, self.address.state, slot[KEY])
        return data if self.expiry is None else stamp(entry.since) + data


def _trim(cell: _Cell) -> None:
    """Forget what a large map has in the cell, all of which is written."""
    if len(cell.entries) > WHOLE:
        cell.entries.clear()
        cell.whole = False
    elif cell.whole:
        for packed in [packed for packed, entry in cell.entries.items() if entry is ABSENT]:
            del cell.entries[packed]
