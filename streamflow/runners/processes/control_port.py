"""The port to the workers' control connections: `ControlServer` is the real one; a simulation passes another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streamflow.runtime.control.messages import FromProcess, Hello, ToProcess

__all__ = ["Connection", "Server"]


class Connection(Protocol):
    """The connection to one worker."""

    def send(self, attempt: int, message: ToProcess) -> None:
        """Sends a message of an attempt; does nothing if the connection is gone."""
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...

    async def carry(self, hear: Callable[[int, FromProcess], None]) -> str:
        """Hands over messages, in order, until the connection ends; gives the reason of its end."""
        ...


class Server(Protocol):
    """Takes on workers."""

    @property
    def address(self) -> str:
        """The address for the workers; known once it is open."""
        ...

    async def open(self, address: str, joined: Callable[[Hello, Connection], None]) -> None:
        """Listens from now on at the address that the starter of workers has given; `joined` is called with each
        worker that has said hello."""
        ...

    async def close(self) -> None:
        """Listens no more, and closes all connections."""
        ...
