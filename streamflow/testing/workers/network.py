"""Connections between the workers of one event loop: what is sent comes in order, at once.

The simulator has another network, which is slow, and may be cut.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass

__all__ = ["End", "Link", "Network"]

_WINDOW = 4
"""Messages that may be unread before a sender waits."""


class Link:
    """One way of a connection. `carry` takes each message, in order, to `arrive`, at once or later.

    >>> async def said():
    ...     link = Link()
    ...     link.put(b"one"); link.close()
    ...     return await link.receive(), await link.receive()
    >>> asyncio.run(said())
    (b'one', None)
    """

    def __init__(self) -> None:
        self._arrived: deque[bytes | None] = deque()
        self._unread = 0
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        self.broken = False

    def put(self, message: bytes) -> None:
        """Sends a message; does nothing if the connection is gone."""
        if not self._closed and not self.broken:
            self._unread += 1
            self.carry(message)

    async def send(self, message: bytes) -> None:
        """Sends a message, and waits while many are unread. Raises ConnectionError if the connection is gone."""
        self._check()
        self.put(message)
        while self._unread > _WINDOW:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
            self._check()

    async def receive(self) -> bytes | None:
        """The next message; None at the end of the connection."""
        while not self._arrived:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        message = self._arrived[0]
        if message is not None:  # the end stays
            self._arrived.popleft()
            self._unread -= 1
            _wake(self._room)
        return message

    def close(self) -> None:
        """Ends the connection behind everything that has been sent."""
        if not self._closed and not self.broken:
            self._closed = True
            self.carry(None)

    def break_off(self) -> None:
        """Notes that this way is gone for the sender, whose messages come to nobody any more."""
        self.broken = True
        _wake(self._room)

    def carry(self, message: bytes | None) -> None:
        """Takes a message, None for the end, to the other side."""
        self.arrive(message)

    def arrive(self, message: bytes | None) -> None:
        """Takes in what has come through."""
        self._arrived.append(message)
        _wake(self._news)

    def _check(self) -> None:
        if self.broken or self._closed:
            raise ConnectionResetError("the connection is gone")


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """One end of a connection."""

    out: Link
    into: Link

    def close(self) -> None:
        """Closes the connection: what was sent still comes to the other side, which can send nothing more."""
        self.out.close()
        self.into.break_off()


class Network:
    """The connections of one event loop, and the addresses at which somebody listens."""

    def __init__(self) -> None:
        self._listening: dict[str, tuple[Callable[[End], None], Context]] = {}

    def listen(self, address: str, accept: Callable[[End], None]) -> None:
        """Calls `accept`, as the listener, with its end of each connection to the address."""
        self._listening[address] = accept, copy_context()

    def unlisten(self, address: str) -> None:
        """Takes no more connections to the address."""
        self._listening.pop(address, None)

    async def connect(self, address: str) -> End:
        """A connection to the listener at the address; raises ConnectionError if there is none."""
        found = self._listening.get(address)
        if found is None:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        accept, context = found
        here, there = self.ends(address)
        asyncio.get_running_loop().call_soon(accept, there, context=context.copy())
        return here

    def ends(self, address: str) -> tuple[End, End]:
        """The two ends of a new connection to the address."""
        to, back = Link(), Link()
        return End(to, back), End(back, to)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
