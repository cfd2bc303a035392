"""The port to other workers: one connection for each channel between two of them, in order, with backpressure.

`SocketTransport` is the real one; a simulation passes another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamflow.core.elements import StreamElement
from streamflow.errors import StreamflowError
from streamflow.runtime.exchange.channel import Channel

__all__ = ["ChannelName", "Sender", "Transport", "TransportError"]


class TransportError(StreamflowError):
    """A connection to another worker that cannot be made, was refused, or broke."""


@dataclass(frozen=True, slots=True)
class ChannelName:
    """A channel of an attempt: the number of its edge in the plan, and those of the upper and the lower subtask.

    >>> str(ChannelName(attempt=2, edge=0, upper=1, lower=3))
    'attempt 2, edge 0, subtask 1 to 3'
    """

    attempt: int
    edge: int
    upper: int
    lower: int

    def __str__(self) -> str:
        return f"attempt {self.attempt}, edge {self.edge}, subtask {self.upper} to {self.lower}"


class Sender(Protocol):
    """The sending end of a channel to another worker."""

    async def open(self) -> None:
        """Connects; raises TransportError if that fails, or if one of the two cannot prove that it knows the secret."""
        ...

    async def send(self, element: StreamElement) -> None:
        """Sends an element, waiting while the way is full: that is the backpressure.

        Raises TransportError if the connection is gone, RecordError for a record that cannot leave the process.
        """
        ...

    def close(self) -> None:
        """Closes the connection once what was sent is on its way; idempotent."""
        ...


class Transport(Protocol):
    """All connections of one worker to others."""

    lost: Callable[[ChannelName, str], None]
    """Called with a reason, once, when a connection of a live attempt broke before EndOfInput had passed."""

    @property
    def address(self) -> str:
        """The address for the other workers, like `unix:/path` or `tcp:host:port`; known once it listens."""
        ...

    def expect(self, name: ChannelName, channel: Channel) -> None:
        """Lets a connection for `name` feed the channel. One for a name that nobody expects is refused."""
        ...

    def sender(
        self, address: str, name: ChannelName, *, operator: str = "", broadcast: bool = False
    ) -> Sender:
        """The sending end of a channel to the worker at `address`. Errors of records name `operator`. With `broadcast`,
        all senders of the edge and the upper subtask are sent the same batches, which are encoded once."""
        ...

    def forget(self, attempt: int) -> None:
        """Closes both ends of all connections of the attempt, and refuses later ones; idempotent."""
        ...

    async def close(self) -> None:
        """Closes all connections and listens no more."""
        ...
