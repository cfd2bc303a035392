"""`ValueHandle` and its kin: one value for the current key, as the attribute of a running process."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from streamflow.errors import StreamflowError
from streamflow.state.keyed.cache import (
    ABSENT,
    CHANGED,
    GROUP,
    KEY,
    KEY_BYTES,
    UNLOADED,
    Changes,
    Slot,
    StateCache,
)
from streamflow.state.keyed.handle import Entry, KeyedHandle, encoded
from streamflow.state.keyed.not_its_value import NotItsValue
from streamflow.state.keyed.ttl import STAMP_BYTES, TimeToLive, stamp
from streamflow.state.keyed.value_types import ValueType
from streamflow.windows.python_functions import Aggregator

__all__ = ["AggregatingHandle", "ExpiringValueHandle", "ReducingHandle", "ValueHandle"]

T = TypeVar("T")


class ValueHandle(KeyedHandle, Generic[T]):
    """One value per key.

    A returned value of a mutable type (a list, a dataclass that is not frozen) may be changed in place: reading it
    counts as writing it. A default is returned as a copy and is not stored.
    """

    __slots__ = ("_decode", "_default", "_encode", "_kind", "_mutable", "_read", "_type", "loads")
    kind = "ValueState"
    methods = "value(), update(value) or clear()"

    def __init__(
        self,
        cache: StateCache,
        name: str,
        type_: ValueType,
        default: Any = None,
        ttl: TimeToLive | None = None,
    ) -> None:
        self._type = type_
        self._kind = type_.only_kind
        self._default = default
        self._encode = type_.encoder()
        self._decode = type_.decoder()
        self._read: Callable[[bytes], Any] = self._decode
        self._mutable = type_.mutable
        self.loads = 0
        """The number of keys read one by one; the cache sets it back."""
        super().__init__(cache, name, ttl)
        cache.loading.append(self)

    def value(self) -> T:
        """The current key's value, or the default."""
        slot = self._current.slot
        value: Any = slot[self._index]
        if value is UNLOADED:
            value = slot[self._index] = self._load(slot)
        if value is ABSENT:
            value = self._absent()
        elif self._mutable:
            self._cache.mark(slot, self._bit)
        return cast("T", value)

    def update(self, value: T) -> None:
        """Sets the current key's value; None clears it. Raises RecordError for a value of another type."""
        slot = self._current.slot
        if type(value) is not self._kind:
            if value is None:
                self.clear()
                return
            value = self._type.checked(value, self._what)
        slot[self._index] = value
        if not slot[CHANGED] & self._bit:
            self._cache.mark(slot, self._bit)

    def clear(self) -> None:
        """Clears the current key's value."""
        slot = self._current.slot
        slot[self._index] = ABSENT
        self._cache.mark(slot, self._bit)

    def changes(self, slots: Sequence[Slot]) -> Changes:
        index, encode = self._index, self._encode
        try:
            return [
                (slot[GROUP], slot[KEY_BYTES], None if slot[index] is ABSENT else encode(slot[index]))
                for slot in slots
            ]
        except (StreamflowError, TypeError, ValueError, AttributeError, OverflowError):
            return [(slot[GROUP], slot[KEY_BYTES], self._encoded(slot)) for slot in slots]

    def prefetch(self, slots: Sequence[Slot]) -> None:
        """Reads the cells of these slots that have not been read."""
        index = self._index
        unread = [slot for slot in slots if slot[index] is UNLOADED]
        found = self._cache.backend.get_many(
            self.address, [(slot[GROUP], slot[KEY_BYTES]) for slot in unread]
        )
        for slot, data in zip(unread, found, strict=True):
            slot[index] = ABSENT if data is None else self._read(data)

    def _encoded(self, slot: Slot) -> bytes | None:
        value = slot[self._index]
        return None if value is ABSENT else encoded(self._encode, value, self.address.state, slot[KEY])

    def _load(self, slot: Slot) -> Any:
        self.loads += 1
        data = self._cache.backend.get(self.address, slot[GROUP], slot[KEY_BYTES])
        return ABSENT if data is None else self._read(data)

    def _absent(self) -> Any:
        return copy.deepcopy(self._default) if self._mutable else self._default


class ExpiringValueHandle(ValueHandle[T]):
    """One value per key, which expires after its time to live."""

    __slots__ = ("_expiry",)

    def __init__(self, cache: StateCache, name: str, type_: ValueType, default: Any, ttl: TimeToLive) -> None:
        super().__init__(cache, name, type_, default, ttl)
        assert self.expiry is not None
        self._expiry = self.expiry
        self._read = self._aged

    def value(self) -> T:
        slot = self._current.slot
        cell = self._cell(slot)
        if cell is ABSENT:
            return cast("T", self._absent())
        if self._expiry.used(cell) or self._mutable:
            self._cache.mark(slot, self._bit)
        return cast("T", cell.value)

    def update(self, value: T) -> None:
        if value is None:
            self.clear()
            return
        if type(value) is not self._kind:
            value = self._type.checked(value, self._what)
        slot = self._current.slot
        cell = self._cell(slot)
        if cell is ABSENT:
            slot[self._index] = self._expiry.begin(Entry(value), slot)
        else:
            cell.value = value
            self._expiry.written(cell)
        self._cache.mark(slot, self._bit)

    def clear(self) -> None:
        slot = self._current.slot
        cell = slot[self._index]
        self._drop(slot, b"", self._load(slot) if cell is UNLOADED else cell)

    def clean(self) -> None:
        self._expiry.clean(self._cache, self.address, self._known, self._drop)

    def changes(self, slots: Sequence[Slot]) -> Changes:
        for slot in slots:
            if (cell := slot[self._index]) is not ABSENT:
                self._expiry.settle(cell, slot)
        return [(slot[GROUP], slot[KEY_BYTES], self._encoded(slot)) for slot in slots]

    def _cell(self, slot: Slot) -> Any:
        """The cell, unless its content has expired."""
        cell = slot[self._index]
        if cell is UNLOADED:
            cell = slot[self._index] = self._load(slot)
        if cell is not ABSENT and self._expiry.over(cell):
            self._drop(slot, b"", cell)
            return ABSENT
        return cell

    def _aged(self, data: bytes) -> Any:
        return self._expiry.read_back(Entry(self._decode(data[STAMP_BYTES:])), data)

    def _encoded(self, slot: Slot) -> bytes | None:
        cell = slot[self._index]
        if cell is ABSENT:
            return None
        return stamp(cell.since) + encoded(self._encode, cell.value, self.address.state, slot[KEY])

    def _known(self, slot: Slot, rest: bytes) -> Any:
        cell = slot[self._index]
        return None if cell is UNLOADED else cell

    def _drop(self, slot: Slot, rest: bytes, entry: Any) -> None:
        """Forgets a value and its place in the queue."""
        if entry is not ABSENT:
            self._expiry.forget(entry, slot)
            slot[self._index] = ABSENT
            self._cache.mark(slot, self._bit)


class ReducingHandle(NotItsValue, Generic[T]):
    """The values added for a key, combined two by two."""

    __slots__ = ("_function", "_inner")
    kind = "ReducingState"
    methods = "add(value), get() or clear()"

    def __init__(self, inner: ValueHandle[T | None], function: Callable[[T, T], T]) -> None:
        self._inner = inner
        self._function = function

    def add(self, value: T) -> None:
        """Combines one more value with the present one."""
        inner = self._inner
        before = inner.value()
        inner.update(value if before is None else self._function(before, value))

    def get(self) -> T | None:
        """The values so far as one; None if there are none."""
        return self._inner.value()

    def clear(self) -> None:
        """Clears the value."""
        self._inner.clear()


class AggregatingHandle(NotItsValue):
    """The values added for a key, folded by an `Aggregator`."""

    __slots__ = ("_aggregator", "_inner")
    kind = "AggregatingState"
    methods = "add(value), get() or clear()"

    def __init__(self, inner: ValueHandle[Any], aggregator: Aggregator) -> None:
        self._inner = inner
        self._aggregator = aggregator

    def add(self, value: Any) -> None:
        """Folds in one more value."""
        before = self._inner.value()
        aggregator = self._aggregator
        self._inner.update(aggregator.add(aggregator.create() if before is None else before, value))

    def get(self) -> Any:
        """The result so far; None if there are no values."""
        accumulator = self._inner.value()
        return None if accumulator is None else self._aggregator.result(accumulator)

    def clear(self) -> None:
        """Clears the value."""
        self._inner.clear()
