"""Waiting: for any of several futures or for a moment, on the injected clock; and for an end, whatever is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from streamflow.time.clock import Clock

__all__ = ["Signal", "all_of", "outlasting", "until"]

T = TypeVar("T")


class Signal:
    """News that stays until it is looked at: a loop that clears it, looks at everything and then waits misses none,
    however often it has awaited something in between.

    >>> signal = Signal()
    >>> signal.set()
    >>> asyncio.run(signal.wait())
    """

    def __init__(self) -> None:
        self._set = False
        self._waiting: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Notes news."""
        self._set = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def clear(self) -> None:
        """Clears the news: the loop is about to look at everything."""
        self._set = False

    @property
    def news(self) -> asyncio.Future[None]:
        """A future that is done once there has been news since the last `clear`; for one loop to wait for."""
        self._waiting = asyncio.get_running_loop().create_future()
        if self._set:
            self._waiting.set_result(None)
        return self._waiting

    async def wait(self) -> None:
        """Returns once there has been news since the last `clear`."""
        await self.news


async def all_of(running: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all, in order, once the last has ended; also if one has failed, whose exception is then raised."""
    results: list[T] = []
    for each in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(each, BaseException):
            raise each
        results.append(each)
    return results


async def outlasting(ended: asyncio.Future[Any]) -> None:
    """Returns once `ended` is done, however often the waiting task is cancelled; its result is ignored."""
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([ended])


async def until(events: Sequence[asyncio.Future[Any]], seconds: float | None, clock: Clock) -> None:
    """Returns once any of `events` is done, or after `seconds` (None: never)."""
    if seconds is None:
        if len(events) == 1:
            await events[0]
        else:
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        return
    sleeper = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({*events, sleeper}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeper.cancel()
