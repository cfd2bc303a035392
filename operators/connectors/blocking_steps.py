"""Blocking steps of a reader, one at a time, that survive a cancelled wait: data that a thread has already taken from
a file goes to the next wait instead of being lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["BlockingSteps"]

T = TypeVar("T")


class BlockingSteps:
    """Runs the steps of one reader on the I/O threads."""

    def __init__(self, run_blocking: Callable[..., Any]) -> None:
        self._run_blocking = run_blocking
        self._running: asyncio.Future[Any] | None = None

    async def run(self, step: Callable[[], T]) -> T:
        """The result of the step; if an earlier wait was cancelled, of the step that still runs."""
        running = self._running
        if running is None:
            running = self._running = asyncio.ensure_future(self._run_blocking(step))
        result: T = await asyncio.shield(running)
        self._running = None
        return result

    async def close(self) -> None:
        """Waits until no step runs; its result and its failure are dropped."""
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None
