"""The write-back cache between a process's handles and the keyed backend.

A *slot* is a list about one key: its bytes, its key group, which of its states have changed, the key, and one cell for
each state, decoded. Setting the current key is one look-up in a dictionary; a state is read from its cell and written
to it. Changed slots are written to the backend in slices when there are `DIRTY` of them, when they leave the cache and
before a snapshot, so that a barrier finds little to write.

The cache has two generations: what is used moves to the young one; when that is full it becomes the old one, and what
was still in the old one is forgotten. That is nearly LRU and costs nothing on a hit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal
from typing import Any, Final, Protocol, cast, runtime_checkable

import msgpack  # type: ignore[import-untyped]

from streamflow.core.serde import pack, unpack
from streamflow.errors import StateError
from streamflow.state.backends.protocol import SLICE, KeyedStateBackend, StateAddress
from streamflow.time.timestamps import MIN_TIME

__all__ = [
    "ABSENT",
    "CELLS",
    "CHANGED",
    "DIRTY",
    "ENTRIES",
    "GROUP",
    "KEY",
    "KEY_BYTES",
    "NAN",
    "UNLOADED",
    "Changes",
    "Current",
    "LoadingHandle",
    "Slot",
    "StateCache",
    "StateHandle",
    "decoded_key",
    "key_bytes",
]

DIRTY: Final = 4_096
"""How many keys may have changes that the backend does not have yet."""
ENTRIES: Final = 131_072
"""How many decoded entries are kept: keys, and entries of maps and lists. About 350 bytes each for a number."""

KEY_BYTES, GROUP, CHANGED, KEY, CELLS = range(5)
"""Where things are in a slot."""

NAN: Final = float("nan")
"""The one NaN by which keys are looked up: dictionaries find it, since it is the same object."""

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
    """A user's key as bytes, none of which is the beginning of another's; equal numbers have equal bytes whatever
    their type is, and equal times whatever their zone is, as they have one key group.

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
    return key


def decoded_key(data: bytes) -> tuple[Hashable, object]:
    """What `key_bytes` gave these bytes for: what to look it up by, and the key itself."""
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
    """What is being processed: the key's slot, event time, and the clocks by which state expires."""

    __slots__ = ("slot", "time", "wall", "watermark")

    def __init__(self) -> None:
        self.slot: Slot = _NoKey()
        self.time: int | None = None
        self.watermark = MIN_TIME
        self.wall = MIN_TIME

    def leave(self) -> None:
        """No key is current, and no event: time is the watermark."""
        self.slot = _NoKey()
        self.time = None


class StateHandle(Protocol):
    """What the cache needs of a handle."""

    @property
    def address(self) -> StateAddress: ...

    def changes(self, slots: Sequence[Slot]) -> Changes:
        """What the backend does not have yet of these slots."""
        ...


@runtime_checkable
class LoadingHandle(Protocol):
    """A handle that can read many keys at once. `loads` counts those that it has read one by one."""

    loads: int

    def prefetch(self, slots: Sequence[Slot]) -> None:
        """Read the cells of these slots that have not been read."""
        ...


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
    ) -> None:
        """`shown` turns a key that was read back from its bytes into what users see, where that differs. `by_bytes`:
        keys that dictionaries do not find (lists, structs) are looked up by their bytes."""
        self.backend = backend
        self.operator = operator
        self.current = current
        self.young: dict[Hashable, Slot] = {}
        self._old: dict[Hashable, Slot] = {}
        self._shown = shown
        self._by_bytes = by_bytes
        self.handles: list[StateHandle] = []
        self._loading: list[LoadingHandle] = []
        self._wanted: list[LoadingHandle] = []
        self._misses = 0
        self._rows = 0
        self._blank: list[Any] = []
        self._changed: list[Slot] = []
        self._half = max(1, entries // 2)
        self._room = self._half
        self._most_dirty = dirty
        self.overdue = False

    def register(self, handle: StateHandle) -> int:
        """Take in a handle; the position of its cells in slots."""
        self.handles.append(handle)
        if isinstance(handle, LoadingHandle):
            self._loading.append(handle)
        self._blank.append(UNLOADED)
        return CELLS + len(self.handles) - 1

    def enter(self, key: Hashable, shown: object, group: int) -> Slot:
        """The slot of a key that is not in `young`, which it then is. `shown` is the key as users see it."""
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
        """These keys come next: where many lately were not in the cache, read what is likely to be used at once."""
        misses, before, self._misses, self._rows = self._misses, self._rows, 0, len(keys)
        if 8 * misses < before or not before:
            self._wanted = []
        elif not self._wanted:
            self._wanted = [handle for handle in self._loading if 2 * handle.loads >= misses]
        for handle in self._loading:
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
        """The slot of the key that has these bytes."""
        key, shown = decoded_key(data)
        return self.slot(
            data if self._by_bytes else key, shown if self._shown is None else self._shown(shown), group
        )

    def peek(self, data: bytes) -> Slot | None:
        """The slot of the key that has these bytes, if it is in the cache."""
        key = data if self._by_bytes else decoded_key(data)[0]
        return self.young.get(key) or self._old.get(key)

    def grew(self, entries: int) -> None:
        """A cell holds so many more entries."""
        self._room -= entries

    def mark(self, slot: Slot, bit: int) -> None:
        """The cell of the state `bit` has changed."""
        if slot[CHANGED]:
            slot[CHANGED] |= bit
            return
        if len(self._changed) >= self._most_dirty:
            # Others only: a value of this one that has been handed out may still be changed in place.
            self.write_back()
        slot[CHANGED] = bit
        self._changed.append(slot)

    def settle(self) -> None:
        """Between two batches, when nothing that has been handed out is in use."""
        if self.overdue:
            self.write_back()

    @property
    def dirty(self) -> int:
        """How many keys have changes that the backend does not have."""
        return len(self._changed)

    def write_back(self) -> None:
        """Bring the backend up to date."""
        changed, self._changed = self._changed, []
        self.overdue = False
        for index, handle in enumerate(self.handles):
            bit = 1 << index
            slots = changed if len(self.handles) == 1 else [slot for slot in changed if slot[CHANGED] & bit]
            # In order, the write buffer takes them in a quarter less time.
            changes = sorted(handle.changes(slots))
            for start in range(0, len(changes), SLICE):
                self.backend.write(handle.address, changes[start : start + SLICE])
        for slot in changed:
            slot[CHANGED] = 0

    def _age(self) -> None:
        if self._changed:
            self.write_back()
        self._old, self.young = self.young, {}
        self._room = self._half
