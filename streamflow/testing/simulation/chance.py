"""Chance from a seed: every choice of a simulation is made here, so that the same seed makes the same choices."""

from __future__ import annotations

import random as _random  # noqa: TID251 (the simulator is where seeded randomness comes from)
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Chance"]

T = TypeVar("T")


class Chance:
    """A stream of choices; `split` makes independent ones, so that one more choice in one stream changes no other.

    >>> Chance("4711").below(10) == Chance("4711").below(10), Chance(1).split("disk").below(1)
    (True, 0)
    """

    def __init__(self, seed: int | str) -> None:
        self._seed = str(seed)
        self._random = _random.Random(self._seed)
        self._uniform = self._random.random

    def split(self, name: object) -> Chance:
        """An independent stream of that name."""
        return Chance(f"{self._seed}/{name}")

    def below(self, count: int) -> int:
        """A number from 0 to `count − 1`."""
        return int(self._uniform() * count)

    def between(self, least: int, most: int) -> int:
        """A number from `least` to `most`, both included."""
        return least + int(self._uniform() * (most - least + 1))

    def happens(self, probability: float) -> bool:
        """Whether an event of this probability happens."""
        return self._uniform() < probability

    def one_of(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return choices[int(self._uniform() * len(choices))]

    def wait(self, mean: float) -> float:
        """The waiting time for an event that takes `mean` on average and has no memory."""
        return self._random.expovariate(1 / mean) if mean else 0.0

    # The port of the product (`streamflow.time.clock.Randomness`).

    def random(self) -> float:
        """Uniform in [0, 1)."""
        return self._uniform()

    def token(self) -> str:
        """16 hexadecimal characters, for names that must not collide."""
        return f"{self._random.getrandbits(64):016x}"
