"""The common part of all handles of keyed state: a cell in each key's slot, an address, a time to live.

Reading and writing go to the key's slot (`state.keyed.cache`); the backend is asked once per key that comes into the
cache.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from streamflow.errors import StateError, StreamflowError, cut
from streamflow.state.backends.protocol import StateAddress
from streamflow.state.keyed.cache import CELLS, Changes, Slot, StateCache
from streamflow.state.keyed.not_its_value import NotItsValue
from streamflow.state.keyed.ttl import Aged, ExpiryQueue, TimeToLive

__all__ = ["Entry", "KeyedHandle", "encoded"]

E = TypeVar("E")


class Entry(Aged):
    """A value in a cell that expires, or one of a map with its key."""

    __slots__ = ("key", "value")

    def __init__(self, value: Any, key: Any = None) -> None:
        super().__init__()
        self.value = value
        self.key = key


class KeyedHandle(NotItsValue, ABC):
    """One state of a subtask; `expiry` is None without a time to live."""

    __slots__ = ("_bit", "_cache", "_current", "_index", "_what", "address", "expiry")

    def __init__(self, cache: StateCache, name: str, ttl: TimeToLive | None = None) -> None:
        self.address = StateAddress(cache.operator, name)
        self._cache = cache
        self._current = cache.current
        self._what = f"state {name!r}"
        self.expiry: ExpiryQueue | None = None
        if ttl is not None:
            place = StateAddress(cache.operator, f"ttl-{name}")
            self.expiry = ExpiryQueue(cache.backend, place, ttl, cache.current)
        self._index = cache.register(self)
        self._bit = 1 << (self._index - CELLS)

    @abstractmethod
    def changes(self, slots: Sequence[Slot]) -> Changes:
        """The changes of these slots that are not in the backend yet."""

    def clean(self) -> None:
        """Removes expired entries, a bounded number at once."""


def encoded(encode: Callable[[Any], E], value: Any, name: str, key: object) -> E:
    """A value as it is stored; raises StateError with the state's name and the key if the state cannot hold it."""
    what = f"state {name!r} of the key {cut(key, 80)}"
    try:
        return encode(value)
    except StreamflowError as error:
        raise StateError(f"{what}: {error.message}", hint=error.hint) from error
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        why = f"{cut(value)} cannot be stored: {error}"
        raise StateError(f"{what}: {why}", hint="its parts are not as declared") from error
