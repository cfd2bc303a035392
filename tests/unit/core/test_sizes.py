"""Sizes of values: about what they take in memory, whatever holds them, and told in a short time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import Any

import polars as pl
import pytest

from streamflow.core.batch import RowBatch
from streamflow.core.sizes import size_of, size_of_rows

TEXT = "x" * 1_000_000


@dataclass
class Plain:
    held: Any


@dataclass(slots=True)
class Slotted:
    held: Any


@dataclass(slots=True)
class Derived(Slotted):
    more: Any = None


class Node:
    def __init__(self, above: Node | None) -> None:
        self.above = above
        self.below: list[Node] = []


class Hostile:
    def __sizeof__(self) -> int:
        raise ValueError("no")

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise ValueError("no")


@pytest.mark.parametrize(
    "value",
    [
        TEXT,
        {"a": TEXT},
        {"a": {"b": [(TEXT,)]}},
        [bytearray(1_000_000)],
        {1, TEXT},
        deque([TEXT]),
        Plain(TEXT),
        Slotted(TEXT),
        Derived(1, [TEXT]),
        Plain(Slotted({"a": TEXT})),
        [f"{n:01000}" for n in range(1_000)],
        {n: f"{n:01000}" for n in range(1_000)},
        pl.DataFrame({"a": range(125_000)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_holds_much_is_large(value: Any) -> None:
    assert 900_000 < size_of(value) < 1_300_000
    assert 900_000 < RowBatch([value]).nbytes < 1_300_000


def test_what_holds_itself_and_what_cannot_be_looked_at_has_a_size() -> None:
    above = Node(None)
    above.below = [Node(above) for _ in range(100)]
    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)
    for value in (above, holds_itself, Hostile(), {"a": Hostile()}, type, print):
        assert 0 < size_of(value) < 100_000


def test_a_value_that_branches_without_end_is_looked_into_for_a_while() -> None:
    numbers = count()

    class Endless:
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            next(numbers)
            return {"left": Endless(), "right": Endless()}

    assert size_of(Endless()) > 0
    assert next(numbers) < 1_000


def test_of_many_rows_a_few_are_judged() -> None:
    rows = [{"k": "a" * (10 + n % 7), "v": n} for n in range(10_000)]
    exactly = sum(map(size_of, rows)) + 8 * len(rows)
    assert size_of_rows(rows) == pytest.approx(exactly, rel=0.05)
    assert size_of_rows([]) == 0
