"""Waiting for something or for a moment, whichever comes first, on the injected clock."""

from __future__ import annotations

import asyncio
from typing import Any

from streamflow.time.clock import Clock

__all__ = ["until"]


async def until(event: asyncio.Future[Any], seconds: float | None, clock: Clock) -> None:
    """Return once `event` is done, or after `seconds` (None: never)."""
    if seconds is None:
        await event
        return
    sleeper = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({event, sleeper}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeper.cancel()
