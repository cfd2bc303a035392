"""The smallest of many values that mostly grow, found without a look at all of them."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Generic, TypeVar

__all__ = ["Smallest"]

Name = TypeVar("Name")
Value = TypeVar("Value")


class Smallest(Generic[Name, Value]):
    """Values by name; among equal values the smaller name comes first.

    Each name is in a heap under a value that the name has had, and moves when it comes to the top: a value that grows
    below the top costs O(1), any other change O(log n).

    >>> smallest = Smallest[str, int]()
    >>> for name, value in (("a", 3), ("b", 5), ("a", 9)):
    ...     smallest.put(name, value)
    >>> smallest.first
    ('b', 5)
    """

    __slots__ = ("_heap", "_keys", "_values")

    def __init__(self, values: Mapping[Name, Value] | None = None) -> None:
        self._values: dict[Name, Value] = dict(values or {})
        self._keys: dict[Name, Value] = dict(self._values)
        """The value under which each name is in the heap."""
        self._heap: list[Any] = [(value, name) for name, value in self._values.items()]
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._values)

    def put(self, name: Name, value: Value) -> None:
        """Adds a name, or changes its value."""
        self._values[name] = value
        if name not in self._keys or value < self._keys[name]:  # type: ignore[operator]
            self._keys[name] = value
            heappush(self._heap, (value, name))

    def remove(self, name: Name) -> None:
        """Removes a name, if it is there."""
        self._values.pop(name, None)

    @property
    def first(self) -> tuple[Name, Value] | None:
        """The name with the smallest value, and the value; None if there is no name."""
        heap, keys, values = self._heap, self._keys, self._values
        while heap:
            key, name = heap[0]
            if keys.get(name) != key:
                heappop(heap)
            elif name not in values:
                heappop(heap)
                del keys[name]
            elif values[name] != key:
                keys[name] = values[name]
                heapreplace(heap, (values[name], name))
            else:
                return name, key
        return None

    def beside(self, name: Name) -> tuple[Name, Value] | None:
        """The first of the other names."""
        first = self.first
        if first is None or first[0] != name:
            return first
        self.remove(name)
        try:
            return self.first
        finally:
            self.put(*first)
