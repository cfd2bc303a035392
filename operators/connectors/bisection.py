"""Bisection: finds the few items that make a whole fail, by halving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["halve"]

T = TypeVar("T")


def halve(items: Sequence[T], problem_of: Callable[[Sequence[T]], str | None]) -> dict[int, str]:
    """Error texts by index for the items that fail. `problem_of` gives the error text of several items together, or
    None.

    >>> halve(["1", "x", "3"], lambda part: "no number" if "x" in part else None)
    {1: 'no number'}
    """
    problem = problem_of(items) if items else None
    if problem is None:
        return {}
    if len(items) == 1:
        return {0: problem}
    middle = len(items) // 2
    found = halve(items[:middle], problem_of)
    for index, what in halve(items[middle:], problem_of).items():
        found[middle + index] = what
    return found
