"""Calls of aiokafka that lose the caller's cancellation.

Its client, while it closes, waits for a task that it has cancelled and suppresses the `CancelledError` that comes of
it: also that of whoever closes it. A job that is told to end in that moment would go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["heeding_cancel"]

T = TypeVar("T")


async def heeding_cancel(call: Awaitable[T]) -> T:
    """What `call` gives; CancelledError behind it where the task was cancelled meanwhile."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    given = await call
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return given
