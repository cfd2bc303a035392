"""The write-back cache between a process's handles and the keyed backend.

A *slot* is a list about one key: its bytes, its key group, which of its states have changed, the key, and one cell for
each state, decoded. Setting the current key is one look-up in a dictionary; a state is read from its cell and written
to it. Changed slots are written to the backend in slices when there are `DIRTY` of them, when they leave the cache and
before a snapshot, so that a barrier finds little to write.

The cache has two generations: a slot that is used moves to the young one; when that is full it becomes the old one,
and the slots still in the old one are dropped. That is nearly LRU and costs nothing on a hit. Before that the cache
becomes larger, as long as the subtask's memory allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

import msgpack  # type: ignore[import-untyped]

from streamflow.core.one_zero import NAN, with_one_zero
from streamflow.core.serde import pack, unpack
from streamflow.errors import StateError
from streamflow.state.backends.protocol import SLICE, KeyedStateBackend
from streamflow.state.memory_share import MemoryShare
from streamflow.time.timestamps import MIN_TIME

if TYPE_CHECKING:
    from streamflow.state.keyed.handle import KeyedHandle
    from streamflow.state.keyed.value import ValueHandle

__all__ = [
    "ABSENT",
    "CELLS",
    "CHANGED",
    "DIRTY",
    "ENTRIES",
    "GROUP",
    "KEY",
    "KEY_BYTES",
    "UNLOADED",
    "Changes",
    "Current",
    "Slot",
    "StateCache",
    "decoded_key",
    "key_bytes",
]

DIRTY: Final = 4_096
"""The number of keys that may have changes that are not in the backend."""
ENTRIES: Final = 131_072
"""The largest number of decoded entries that are kept: keys, and entries of maps and lists."""
_ENTRY_BYTES: Final = 350
"""The size of an entry that is a number, about."""
_FEWEST: Final = 1_024

KEY_BYTES, GROUP, CHANGED, KEY, CELLS = range(5)
"""Positions in a slot."""

Slot = list[Any]
Changes = list[tuple[int, bytes, bytes | None]]


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


UNLOADED: Final = _Sentinel("UNLOADED")
ABSENT: Final = _Sentinel("ABSENT")

_msgpack: Any = msgpack
# One for all threads: packing plain text or a number never lets another thread in.
_pack_plain: Final[Callable[[Any], bytes]] = _msgpack.Packer(use_bin_type=True, strict_types=True).pack


def key_bytes(key: object) -> bytes:
    """A user's key as bytes, never a prefix of another key's; equal numbers of any type have equal bytes, and equal
    times of any zone, as they have one key group.

    >>> key_bytes("JFK"), key_bytes(1.0) == key_bytes(1) == key_bytes(True)
    (b'\\xa3JFK', True)
    """
    kind = type(key)
    if kind is str or (kind is int and -(2**63) <= cast("int", key) < 2**63):
        return _pack_plain(key)
    return pack(_canonical(key), zones=False)


def _canonical(key: object) -> object:
    if isinstance(key, tuple):
        return tuple(_canonical(part) for part in cast("tuple[object, ...]", key))
    if isinstance(key, (bool, int)):
        return int(key)
    if isinstance(key, float):
        return int(key) if key.is_integer() and abs(key) < 2.0**63 else key
    if isinstance(key, Decimal) and key.is_finite():
        return int(key) if key == key.to_integral_value() else key.normalize()
    return with_one_zero(cast("object", key)) if isinstance(key, (list, dict)) else key


def decoded_key(data: bytes) -> tuple[Hashable, object]:
    """The look-up form of a key and the key itself, from the bytes of `key_bytes`."""
    key = unpack(data)
    if isinstance(key, float) and key != key:
        key = NAN
    elif isinstance(key, tuple):
        parts = cast("tuple[object, ...]", key)
        key = tuple(NAN if isinstance(part, float) and part != part else part for part in parts)
    return cast("Hashable", key), cast("object", key)


class _NoKey(list[Any]):
    """The slot while no key is current: no state can be read or written."""

    def __getitem__(self, index: object) -> Any:
        raise _no_key()

    def __setitem__(self, index: object, value: object) -> None:
        raise _no_key()


def _no_key() -> StateError:
    return StateError(
        "keyed state was used where there is no current key",
        hint="use it in on_event and on_timer; on_broadcast has broadcast state only",
    )


class Current:
    """The event being processed: the key's slot, event time, and the clocks by which state expires."""

    __slots__ = ("slot", "time", "wall", "watermark")

    def __init__(self) -> None:
        self.slot: Slot = _NoKey()
        self.time: int | None = None
        self.watermark = MIN_TIME
        self.wall = MIN_TIME

    def leave(self) -> None:
        """Ends the current event: no key is current, and time is the watermark."""
        self.slot = _NoKey()
        self.time = None


class StateCache:
    """The slots of one subtask's keys, over its backend."""

    def __init__(
        self,
        backend: KeyedStateBackend,
        operator: str,
        current: Current,
        *,
        shown: Callable[[Any], Any] | None = None,
        by_bytes: bool = False,
        entries: int = ENTRIES,
        dirty: int = DIRTY,
        memory: MemoryShare | None = None,
    ) -> None:
        """`shown` turns a key read back from its bytes into the one that users see, if that differs. `by_bytes`: keys
        that dictionaries do not find (lists, structs) are looked up by their bytes. As many entries are kept as
        `memory` has room for, and no more than `entries`."""
        self.backend = backend
        self.operator = operator
        self.current = current
        self.young: dict[Hashable, Slot] = {}
        self._old: dict[Hashable, Slot] = {}
        self._shown = shown
        self._by_bytes = by_bytes
        self.handles: list[KeyedHandle] = []
        self.loading: list[ValueHandle[Any]] = []
        """Those that can read many keys at once."""
        self._wanted: list[ValueHandle[Any]] = []
        self._misses = 0
        self._rows = 0
        self._blank: list[Any] = []
        self._changed: list[Slot] = []
        self._memory = memory
        self._most = max(1, entries // 2)
        self._half = self._most
        if memory is not None:
            self._half = min(self._most, _FEWEST // 2)
            memory.join(self)
            memory.hold(self.nbytes)
        self._room = self._half
        self._most_dirty = dirty
        self.overdue = False

    def register(self, handle: KeyedHandle) -> int:
        """Registers a handle; returns the position of its cells in slots."""
        self.handles.append(handle)
        self._blank.append(UNLOADED)
        return CELLS + len(self.handles) - 1

    def enter(self, key: Hashable, shown: object, group: int) -> Slot:
        """The slot of a key that is not in `young`, moved into `young`. `shown` is the key as users see it."""
        slot = self._old.pop(key, None)
        if slot is None:
            slot = [key_bytes(shown), group, 0, shown, *self._blank]
        self._misses += 1
        if self._room <= 0:
            self._age()
        self._room -= 1
        self.young[key] = slot
        return slot

    def prepare(self, keys: Sequence[Hashable], shown: Sequence[object], groups: Sequence[int]) -> None:
        """Announces the next keys: if many were lately missing in the cache, reads the states that they are likely to
        use."""
        misses, before, self._misses, self._rows = self._misses, self._rows, 0, len(keys)
        if 8 * misses < before or not before:
            self._wanted = []
        elif not self._wanted:
            self._wanted = [handle for handle in self.loading if 2 * handle.loads >= misses]
        for handle in self.loading:
            handle.loads = 0
        if not self._wanted:
            return
        if self._room <= 0:
            self._age()
        entered: list[Slot] = []
        young, blank, known = self.young, self._blank, self._old.pop
        for key, seen, group in zip(keys, shown, groups, strict=True):
            if key not in young:
                slot = known(key, None)
                if slot is None:
                    packed = _pack_plain(seen) if type(seen) is str else key_bytes(seen)
                    slot = [packed, group, 0, seen, *blank]
                young[key] = slot
                entered.append(slot)
        self._misses = len(entered)
        self._room -= len(entered)
        for handle in self._wanted:
            handle.prefetch(entered)

    def slot(self, key: Hashable, shown: object, group: int) -> Slot:
        """The slot of a key."""
        slot = self.young.get(key)
        return self.enter(key, shown, group) if slot is None else slot

    def slot_of(self, data: bytes, group: int) -> Slot:
        """The slot of the key with these bytes."""
        key, shown = decoded_key(data)
        return self.slot(
            data if self._by_bytes else key, shown if self._shown is None else self._shown(shown), group
        )

    def peek(self, data: bytes) -> Slot | None:
        """The slot of the key with these bytes, if it is in the cache."""
        key = data if self._by_bytes else decoded_key(data)[0]
        return self.young.get(key) or self._old.get(key)

    def grew(self, entries: int) -> None:
        """Counts further entries of a cell."""
        self._room -= entries

    def mark(self, slot: Slot, bit: int) -> None:
        """Marks the cell of the state `bit` as changed."""
        if slot[CHANGED]:
            slot[CHANGED] |= bit
            return
        if len(self._changed) >= self._most_dirty:
            # Other slots only: a value of this slot may be in a user's hands and still change in place.
            self.write_back()
        slot[CHANGED] = bit
        self._changed.append(slot)

    def settle(self) -> None:
        """Writes changes back if that is overdue; called between two batches, when users hold no value."""
        if self.overdue:
            self.write_back()

    @property
    def dirty(self) -> int:
        """The number of keys with changes that are not in the backend."""
        return len(self._changed)

    @property
    def nbytes(self) -> int:
        """The bytes of as many entries as it may have now, about."""
        return 2 * self._half * _ENTRY_BYTES

    def make_room(self, nbytes: int) -> None:
        """Drops the old generation, and lets both be half as large from now on."""
        if 2 * self._half > _FEWEST:
            self.write_back()
            self._old = {}
            self._half //= 2
            self._room = min(self._room, self._half)

    def write_back(self) -> None:
        """Writes all changes to the backend."""
        changed, self._changed = self._changed, []
        self.overdue = False
        for index, handle in enumerate(self.handles):
            bit = 1 << index
            slots = changed if len(self.handles) == 1 else [slot for slot in changed if slot[CHANGED] & bit]
            # In order: the write buffer takes ordered keys in a quarter less time.
            changes = sorted(handle.changes(slots))
            for start in range(0, len(changes), SLICE):
                self.backend.write(handle.address, changes[start : start + SLICE])
        for slot in changed:
            slot[CHANGED] = 0

    def _age(self) -> None:
        more = min(2 * self._half, self._most) - self._half
        if more and self._memory is not None and self._memory.take(2 * more * _ENTRY_BYTES):
            self._half += more
            self._room += more
            return
        if self._changed:
            self.write_back()
        self._old, self.young = self.young, {}
        self._room = self._half
