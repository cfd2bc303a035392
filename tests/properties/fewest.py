"""The records of a failing job that it takes to fail: pieces are left out, smaller and smaller ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["fewest"]

T = TypeVar("T")


def fewest(items: Sequence[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """The items without those that can be left out while it fails.

    >>> fewest(range(10), lambda items: {3, 7} <= set(items))
    [3, 7]
    """
    kept, piece = list(items), len(items) // 2
    while piece:
        first = 0
        while first < len(kept):
            fewer = kept[:first] + kept[first + piece :]
            if fails(fewer):
                kept = fewer
            else:
                first += piece
        piece //= 2
    return kept
