"""The bytes that all channels of a process hold together, and the senders that wait for room."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["ChannelMemory"]


class ChannelMemory:
    """Room for `most` bytes. Everything runs on one event loop: no locks."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def held(self) -> int:
        """Bytes in all channels."""
        return self._held

    def fits(self, nbytes: int) -> bool:
        """Whether there is room for so many more."""
        return self._held + nbytes <= self._most

    def take(self, nbytes: int) -> None:
        """Counts so many more. An empty channel takes what comes without asking, or its reader would get nothing."""
        self._held += nbytes

    def release(self, nbytes: int) -> None:
        """Counts so many fewer, and wakes the sender that has waited longest."""
        self._held -= nbytes
        while self._waiting:
            room = self._waiting.popleft()
            if not room.done():
                room.set_result(None)
                break

    def tell(self, room: asyncio.Future[None]) -> None:
        """Sets the result of `room` once some bytes have been released; its turn comes in order."""
        self._waiting.append(room)
