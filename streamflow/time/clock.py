"""Ports for time and randomness: the only code that reads the machine's clock or its entropy."""

from __future__ import annotations

import asyncio
import os as _os
import random as _random
import time as _time
from typing import Protocol

__all__ = ["Clock", "Randomness", "SeededRandom", "SystemClock", "entropy"]


class Clock(Protocol):
    """A clock for processing time and for waiting."""

    def now(self) -> int:
        """Microseconds since 1970 in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return _time.time_ns() // 1_000

    def monotonic(self) -> float:
        return _time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Randomness(Protocol):
    """Random numbers that a simulation can repeat."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...

    def token(self) -> str:
        """16 hexadecimal characters, for names that must not collide."""
        ...


class SeededRandom:
    """Randomness from a seed; from the machine's entropy without one."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = _random.Random(seed)

    def random(self) -> float:
        return self._random.random()

    def token(self) -> str:
        return f"{self._random.getrandbits(64):016x}"


def entropy(size: int) -> bytes:
    """So many bytes that nobody can foresee, for secrets and for what proves them; from the machine."""
    return _os.urandom(size)
