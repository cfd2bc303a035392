"""Broadcast state: a map that every subtask has whole, kept in memory.

Records of the second input go to all subtasks, and each changes its own copy in `on_broadcast`. All copies stay the
same if `on_broadcast` depends on the record and the map alone (Flink's broadcast state pattern).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar, overload

from streamflow.core.serde import pack, unpack
from streamflow.errors import StateError
from streamflow.state.keyed.not_its_value import NotItsValue
from streamflow.state.keyed.value_types import ValueType

__all__ = ["BroadcastHandle"]

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class BroadcastHandle(NotItsValue, Generic[K, V]):
    """The map; it can be changed while a broadcast record is processed, and only read otherwise.

    Values that could change in place are kept packed, and each read gives a copy.
    """

    kind = "BroadcastState"
    methods = (
        "get(key), contains(key), keys(), values(), items() or is_empty(); put(key, value), remove(key) and clear()"
        " in on_broadcast"
    )

    def __init__(self, name: str, key_type: ValueType, type_: ValueType) -> None:
        self._name = name
        self._key_type = key_type
        self._type = type_
        self._encode_key, self._decode_key = key_type.encoder(key=True), key_type.decoder()
        self._encode, self._decode = type_.encoder(), type_.decoder()
        self._entries: dict[bytes, Any] = {}
        self.writable = False

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value under `key`, or the default."""
        packed = self._packed(key)
        if packed not in self._entries:
            return default
        value: Any = self._entries[packed]
        return self._decode(value) if self._type.mutable else value

    def put(self, key: K, value: V) -> None:
        """Set the value under `key`; in `on_broadcast` only."""
        self._check_writable()
        value = self._type.checked(value, f"broadcast state {self._name!r}")
        self._entries[self._packed(key)] = self._encode(value) if self._type.mutable else value

    def remove(self, key: K) -> None:
        """Deletes the entry under `key`, if there is one; in `on_broadcast` only."""
        self._check_writable()
        self._entries.pop(self._packed(key), None)

    def clear(self) -> None:
        """Delete all entries; in `on_broadcast` only."""
        self._check_writable()
        self._entries.clear()

    def contains(self, key: K) -> bool:
        """Whether there is an entry under `key`."""
        return self._packed(key) in self._entries

    def items(self) -> Iterator[tuple[K, V]]:
        """The entries, in the order in which they were added."""
        mutable = self._type.mutable
        for packed, value in list(self._entries.items()):
            yield self._decode_key(packed), self._decode(value) if mutable else value

    def keys(self) -> Iterator[K]:
        """The keys."""
        return (self._decode_key(packed) for packed in list(self._entries))

    def values(self) -> Iterator[V]:
        """The values."""
        return (value for _, value in self.items())

    def is_empty(self) -> bool:
        """Whether the map is empty."""
        return not self._entries

    def __contains__(self, key: K) -> bool:
        return self.contains(key)

    def __iter__(self) -> Iterator[K]:
        return self.keys()

    def __len__(self) -> int:
        return len(self._entries)

    def snapshot(self) -> bytes:
        """The whole map as bytes."""
        mutable = self._type.mutable
        return pack(
            [[key, value if mutable else self._encode(value)] for key, value in self._entries.items()]
        )

    def restore(self, data: bytes) -> None:
        """Restores the map from `snapshot`'s bytes."""
        mutable = self._type.mutable
        self._entries = {key: value if mutable else self._decode(value) for key, value in unpack(data)}

    def _packed(self, key: K) -> bytes:
        return self._encode_key(self._key_type.checked(key, f"broadcast state {self._name!r} by key"))

    def _check_writable(self) -> None:
        if not self.writable:
            raise StateError(
                f"broadcast state {self._name!r} was changed outside of on_broadcast",
                hint="change it there only: each subtask has its own copy, and all have to stay the same",
            )
