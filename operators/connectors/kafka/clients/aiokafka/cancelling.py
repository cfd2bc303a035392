"""Calls of aiokafka that survive cancellation, which aiokafka loses or answers by leaving connections open.

While its client closes, it waits for a task that it has cancelled and suppresses the resulting `CancelledError`, the
closing caller's own too. A job that is told to end at that moment would go on. A client that is cancelled between
opening its first connection and the answer about the cluster loses that connection, and so does one that is closed
while another task is opening a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

__all__ = ["closed", "finishing", "heeding_cancel", "metadata_will_not_come"]

T = TypeVar("T")

_GRACE: Final = 1.0
"""Seconds within which a running broker answers."""


async def heeding_cancel(call: Awaitable[T]) -> T:
    """The result of `call`; raises CancelledError after it if the task was cancelled meanwhile."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    given = await call
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return given


async def closed(client: Any) -> None:
    """Closes a client with the connections that others are opening through it, and ends all waiting for it."""
    client._get_conn = _no_more
    try:
        # Behind all who wait for a connection of theirs.
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE), client._get_conn_lock:
                client._get_conn = _no_more
    finally:
        try:
            await heeding_cancel(client.close())
        finally:
            metadata_will_not_come(client)


async def _no_more(*_: Any, **__: Any) -> None:
    """Opens nothing, in place of the connection that a closed client would open."""


def metadata_will_not_come(client: Any) -> None:
    """Ends the waiting for a closed client's metadata, which aiokafka would continue for ever."""
    waiting: asyncio.Future[bool] | None = client._md_update_fut
    if waiting is not None and not waiting.done():
        waiting.set_result(False)


async def finishing(call: Coroutine[Any, Any, T]) -> T:
    """The result of `call`; if the caller is cancelled, `call` may finish first, for up to a second."""
    task = asyncio.create_task(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            await asyncio.wait([task], timeout=_GRACE)
        finally:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
