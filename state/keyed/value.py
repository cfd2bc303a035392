"""Handles: what `self.total` is in a process while it runs, one value for the current key.

Reading and writing go to the key's slot (`state.keyed.cache`); the backend is asked once per key that comes into the
cache. A handle whose values expire keeps `[value, time from which its age counts, its place in the expiry queue]` in
the cell.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from streamflow.errors import StateError, StreamflowError, cut
from streamflow.state.backends.protocol import StateAddress
from streamflow.state.keyed.cache import (
    ABSENT,
    CELLS,
    CHANGED,
    GROUP,
    KEY,
    KEY_BYTES,
    UNLOADED,
    Changes,
    Slot,
    StateCache,
)
from streamflow.state.keyed.ttl import STAMP_BYTES, ExpiryQueue, TimeToLive, stamp, stamped_at
from streamflow.state.keyed.value_types import ValueType
from streamflow.windows.python_functions import Aggregator

__all__ = ["AggregatingHandle", "ExpiringValueHandle", "ReducingHandle", "ValueHandle", "cannot_be_stored"]

T = TypeVar("T")


def cannot_be_stored(name: str, key: object, error: StreamflowError) -> StateError:
    """The error for a value that its state cannot hold, raised when the value was to be stored."""
    return StateError(f"state {name!r} of the key {cut(key, 80)}: {error.message}", hint=error.hint)


class ValueHandle(Generic[T]):
    """One value per key.

    A returned value of a mutable type (a list, a dataclass that is not frozen) may be changed in place: reading it
    counts as writing it. A default is returned as a copy and is not stored.
    """

    __slots__ = (
        "_bit",
        "_cache",
        "_current",
        "_decode",
        "_default",
        "_encode",
        "_index",
        "_kind",
        "_mutable",
        "_read",
        "_type",
        "address",
        "loads",
    )

    def __init__(self, cache: StateCache, name: str, type_: ValueType, default: Any = None) -> None:
        self.address = StateAddress(cache.operator, name)
        self._cache = cache
        self._current = cache.current
        self._type = type_
        self._kind = type_.only_kind
        self._default = default
        self._encode = type_.encoder()
        self._decode = type_.decoder()
        self._read: Callable[[bytes], Any] = self._decode
        self._mutable = type_.mutable
        self.loads = 0
        self._index = cache.register(self)
        self._bit = 1 << (self._index - CELLS)

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
            value = self._type.checked(value, f"state {self.address.state!r}")
        slot[self._index] = value
        if not slot[CHANGED] & self._bit:
            self._cache.mark(slot, self._bit)

    def clear(self) -> None:
        """Clears the current key's value."""
        slot = self._current.slot
        slot[self._index] = ABSENT
        self._cache.mark(slot, self._bit)

    def changes(self, slots: Sequence[Slot]) -> Changes:
        """The changes of these slots that are not in the backend yet."""
        index, encode = self._index, self._encode
        try:
            return [
                (slot[GROUP], slot[KEY_BYTES], None if slot[index] is ABSENT else encode(slot[index]))
                for slot in slots
            ]
        except (StreamflowError, TypeError, ValueError, AttributeError, OverflowError):
            return [(slot[GROUP], slot[KEY_BYTES], self._encoded(slot)) for slot in slots]

    def _encoded(self, slot: Slot) -> bytes | None:
        value = slot[self._index]
        try:
            return None if value is ABSENT else self._encode(value)
        except StreamflowError as error:
            raise cannot_be_stored(self.address.state, slot[KEY], error) from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            cause = StateError(
                f"{cut(value)} cannot be stored: {error}", hint="its parts are not as declared"
            )
            raise cannot_be_stored(self.address.state, slot[KEY], cause) from error

    def prefetch(self, slots: Sequence[Slot]) -> None:
        """Reads the cells of these slots that have not been read."""
        index = self._index
        unread = [slot for slot in slots if slot[index] is UNLOADED]
        found = self._cache.backend.get_many(
            self.address, [(slot[GROUP], slot[KEY_BYTES]) for slot in unread]
        )
        for slot, data in zip(unread, found, strict=True):
            slot[index] = ABSENT if data is None else self._read(data)

    def _load(self, slot: Slot) -> Any:
        self.loads += 1
        data = self._cache.backend.get(self.address, slot[GROUP], slot[KEY_BYTES])
        return ABSENT if data is None else self._read(data)

    def _absent(self) -> Any:
        return copy.deepcopy(self._default) if self._mutable else self._default


class ExpiringValueHandle(ValueHandle[T]):
    """One value per key, which expires after its time to live."""

    __slots__ = ("_ttl", "expiry")

    def __init__(self, cache: StateCache, name: str, type_: ValueType, default: Any, ttl: TimeToLive) -> None:
        super().__init__(cache, name, type_, default)
        self._ttl = ttl
        self._read = self._stamped
        self.expiry = ExpiryQueue(cache.backend, StateAddress(cache.operator, f"ttl-{name}"))

    def value(self) -> T:
        slot = self._current.slot
        cell = self._cell(slot)
        if cell is ABSENT:
            return cast("T", self._absent())
        if self._ttl.refresh == "read":
            cell[1] = max(cell[1], self._ttl.now(self._current))
        elif not self._mutable:
            return cast("T", cell[0])
        self._cache.mark(slot, self._bit)
        return cast("T", cell[0])

    def update(self, value: T) -> None:
        if value is None:
            self.clear()
            return
        if type(value) is not self._kind:
            value = self._type.checked(value, f"state {self.address.state!r}")
        slot = self._current.slot
        now = self._ttl.now(self._current)
        cell = self._cell(slot)
        if cell is ABSENT:
            end = now + self._ttl.duration
            slot[self._index] = [value, now, end]
            self.expiry.add(end, slot[KEY_BYTES], b"", slot[GROUP])
        else:
            cell[0] = value
            cell[1] = max(cell[1], now)
        self._cache.mark(slot, self._bit)

    def clear(self) -> None:
        slot = self._current.slot
        cell = slot[self._index]
        self._drop(slot, self._load(slot) if cell is UNLOADED else cell)

    def clean(self) -> None:
        """Removes expired values, a bounded number at once."""
        now, duration = self._ttl.now(self._current), self._ttl.duration
        gone: Changes = []
        for key, _, group in self.expiry.due(now):
            slot = self._cache.peek(key)
            cell: Any = UNLOADED if slot is None else slot[self._index]
            if slot is None or cell is UNLOADED:
                data = self._cache.backend.get(self.address, group, key)
                if data is not None:
                    end = stamped_at(data) + duration
                    if end > now:
                        self.expiry.add(end, key, b"", group)
                    else:
                        gone.append((group, key, None))
            elif cell is not ABSENT:
                if cell[1] + duration > now:
                    self._place(slot, cell)
                else:
                    self._drop(slot, cell)
        if gone:
            self._cache.backend.write(self.address, gone)

    def changes(self, slots: Sequence[Slot]) -> Changes:
        index, duration = self._index, self._ttl.duration
        for slot in slots:
            cell = slot[index]
            if cell is not ABSENT and cell[2] != cell[1] + duration:
                self._place(slot, cell)
        return [(slot[GROUP], slot[KEY_BYTES], self._encoded(slot)) for slot in slots]

    def _place(self, slot: Slot, cell: Any) -> None:
        """Gives a value its place in the queue, at its end."""
        end = cell[1] + self._ttl.duration
        if cell[2] != end:
            self.expiry.remove(cell[2], slot[KEY_BYTES], b"", slot[GROUP])
            cell[2] = end
        self.expiry.add(end, slot[KEY_BYTES], b"", slot[GROUP])

    def _drop(self, slot: Slot, cell: Any) -> None:
        """Forgets a value and its place in the queue."""
        if cell is not ABSENT:
            self.expiry.remove(cell[2], slot[KEY_BYTES], b"", slot[GROUP])
            slot[self._index] = ABSENT
            self._cache.mark(slot, self._bit)

    def _cell(self, slot: Slot) -> Any:
        """The cell, unless its content has expired."""
        cell = slot[self._index]
        if cell is UNLOADED:
            cell = slot[self._index] = self._load(slot)
        if cell is not ABSENT and cell[1] + self._ttl.duration <= self._ttl.now(self._current):
            self._drop(slot, cell)
            return ABSENT
        return cell

    def _stamped(self, data: bytes) -> Any:
        since = stamped_at(data)
        return [self._decode(data[STAMP_BYTES:]), since, since + self._ttl.duration]

    def _encoded(self, slot: Slot) -> bytes | None:
        cell = slot[self._index]
        if cell is ABSENT:
            return None
        slot[self._index] = cell[0]
        try:
            encoded = super()._encoded(slot)
        finally:
            slot[self._index] = cell
        return None if encoded is None else stamp(cell[1]) + encoded


class ReducingHandle(Generic[T]):
    """The values added for a key, combined two by two."""

    __slots__ = ("_function", "_inner")

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


class AggregatingHandle:
    """The values added for a key, folded by an `Aggregator`."""

    __slots__ = ("_aggregator", "_inner")

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
