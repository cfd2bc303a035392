"""`ListHandle`: a list for each key, stored in chunks of `CHUNK` elements, so that adding to a long list does not
write it again.

Under the key's bytes lies the *head*: the number of full chunks. Under these bytes and four more, the number of the
chunk, lie the chunks; only the last one, which is not full, is written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, cast

from streamflow.core.serde import pack, unpack
from streamflow.errors import RecordError, StateError, StreamflowError, cut
from streamflow.state.backends.protocol import SLICE, StateAddress
from streamflow.state.keyed.cache import (
    CELLS,
    GROUP,
    KEY,
    KEY_BYTES,
    UNLOADED,
    Changes,
    Slot,
    StateCache,
)
from streamflow.state.keyed.ttl import STAMP_BYTES, ExpiryQueue, TimeToLive, stamp, stamped_at
from streamflow.state.keyed.value import cannot_be_stored
from streamflow.state.keyed.value_types import ValueType

__all__ = ["CHUNK", "ListHandle"]

T = TypeVar("T")

CHUNK: Final = 256
_NUMBER_BYTES: Final = 4
_NEVER: Final = -(2**63) + 1


class _Cell:
    """The known part of one key's list: the number of full chunks, those not written yet, and the rest; with a TTL
    also the time from which its age counts and its place in the expiry queue."""

    __slots__ = ("full", "place", "since", "tail", "unwritten")

    def __init__(self, full: int, tail: list[Any], since: int, place: int) -> None:
        self.full = full
        self.tail = tail
        self.since = since
        self.place = place
        self.unwritten: list[tuple[int, list[Any]]] = []

    @property
    def empty(self) -> bool:
        return not self.full and not self.tail


class ListHandle(Generic[T]):
    """A list for the current key. Its time to live, if it has one, counts for the whole list."""

    __slots__ = (
        "_bit",
        "_cache",
        "_current",
        "_dump",
        "_index",
        "_load",
        "_ttl",
        "_type",
        "_what",
        "address",
        "expiry",
    )

    def __init__(self, cache: StateCache, name: str, type_: ValueType, ttl: TimeToLive | None) -> None:
        self.address = StateAddress(cache.operator, name)
        self._cache = cache
        self._current = cache.current
        self._what = f"state {name!r}"
        self._type = type_
        self._dump, self._load = type_.dump, type_.load
        self._ttl = ttl
        self.expiry = (
            None if ttl is None else ExpiryQueue(cache.backend, StateAddress(cache.operator, f"ttl-{name}"))
        )
        self._index = cache.register(self)
        self._bit = 1 << (self._index - CELLS)

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
        ttl = self._ttl
        if ttl is not None and ttl.refresh == "read":
            cell.since = max(cell.since, ttl.now(self._current))
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
        """The changes of these slots that are not in the backend yet."""
        changes: Changes = []
        for slot in slots:
            cell: _Cell = slot[self._index]
            self._place(slot, cell)
            prefix, group = slot[KEY_BYTES], slot[GROUP]
            for number, chunk in cell.unwritten:
                changes.append((group, prefix + _number(number), pack(chunk)))
            cell.unwritten.clear()
            tail = pack(cell.tail) if cell.tail else None
            changes.append((group, prefix + _number(cell.full), tail))
            changes.append((group, prefix, self._head(cell)))
        return changes

    def clean(self) -> None:
        """Removes expired lists, a bounded number at once."""
        if self._ttl is None or self.expiry is None:
            return
        now = self._ttl.now(self._current)
        for key, _, group in self.expiry.due(now):
            slot = self._cache.slot_of(key, group)
            cell = self._loaded(slot)
            if not cell.empty and not self._expired(slot, cell, now):
                self._place(slot, cell, anyway=True)

    def _append(self, values: list[Any]) -> None:
        if not values:
            return
        slot = self._current.slot
        cell = self._cell(slot)
        ttl = self._ttl
        if ttl is not None:
            now = ttl.now(self._current)
            if cell.empty:
                assert self.expiry is not None
                cell.since, cell.place = now, now + ttl.duration
                self.expiry.add(cell.place, slot[KEY_BYTES], b"", slot[GROUP])
            else:
                cell.since = max(cell.since, now)
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

    def _place(self, slot: Slot, cell: _Cell, *, anyway: bool = False) -> None:
        """Gives a list its place in the queue, at its end; `anyway`: an earlier place may be gone."""
        if self._ttl is None or self.expiry is None or cell.empty:
            return
        end = cell.since + self._ttl.duration
        if cell.place != end:
            self.expiry.remove(cell.place, slot[KEY_BYTES], b"", slot[GROUP])
            cell.place = end
        elif not anyway:
            return
        self.expiry.add(end, slot[KEY_BYTES], b"", slot[GROUP])

    def _plain(self, slot: Slot, values: list[Any]) -> list[Any]:
        dump = self._dump
        if dump is None and not self._type.mutable:
            return values
        try:
            dumped = values if dump is None else [dump(value) for value in values]
            return dumped if not self._type.mutable else list(unpack(pack(dumped)))
        except StreamflowError as error:
            # Found out when the value is handed over, so the error is that record's.
            cause = cannot_be_stored(self.address.state, slot[KEY], error)
            raise RecordError(cause.message, record=values, hint=cause.hint) from error
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise RecordError(
                f"state {self.address.state!r} of the key {cut(slot[KEY], 80)}: it cannot be stored: {error}",
                record=values,
                hint="its parts are not as declared",
            ) from error

    def _copied(self, plain: list[Any]) -> list[Any]:
        """New elements made of plain values."""
        if self._type.mutable:
            plain = unpack(pack(plain))
        load = self._load
        return list(plain) if load is None else [load(value) for value in plain]

    def _cell(self, slot: Slot) -> _Cell:
        cell = self._loaded(slot)
        if self._ttl is not None and not cell.empty:
            self._expired(slot, cell, self._ttl.now(self._current))
        return cell

    def _expired(self, slot: Slot, cell: _Cell, now: int) -> bool:
        """Whether the list has expired; it is empty then."""
        assert self._ttl is not None
        if cell.since + self._ttl.duration > now:
            return False
        self._empty(slot, cell)
        return True

    def _loaded(self, slot: Slot) -> _Cell:
        cell: Any = slot[self._index]
        if cell is UNLOADED:
            head = self._cache.backend.get(self.address, slot[GROUP], slot[KEY_BYTES])
            if head is None:
                cell = _Cell(0, [], _NEVER, _NEVER)
            else:
                since = _NEVER if self._ttl is None else stamped_at(head)
                place = _NEVER if self._ttl is None else since + self._ttl.duration
                full = unpack(head if self._ttl is None else head[STAMP_BYTES:])
                cell = _Cell(full, self._stored(slot, full, may_lack=True), since, place)
                self._cache.grew(len(cell.tail))
            slot[self._index] = cell
        return cast("_Cell", cell)

    def _empty(self, slot: Slot, cell: _Cell) -> None:
        if self.expiry is not None:
            self.expiry.remove(cell.place, slot[KEY_BYTES], b"", slot[GROUP])
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
        return pack(cell.full) if self._ttl is None else stamp(cell.since) + pack(cell.full)


def _number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")
