"""Waiting: for any of several things or for a moment, on the injected clock; and for an end, whatever cancels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from streamflow.time.clock import Clock

__all__ = ["outlasting", "until"]


async def outlasting(ended: asyncio.Future[Any]) -> None:
    """Return once it is done, however often the one who waits is cancelled; what came of it is not looked at."""
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([ended])


async def until(events: Sequence[asyncio.Future[Any]], seconds: float | None, clock: Clock) -> None:
    """Return once any of `events` is done, or after `seconds` (None: never)."""
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
